//! The runtime of Downbeat: the sync machine composed with a storage and transports.
//!
//! A [`Node`] is put together by [`Node::builder`] from any
//! [`Storage`](downbeat_storage::Storage), any number of
//! [`Listener`](downbeat_transport::Listener)s for clients, and any number of
//! [`Connector`](downbeat_transport::Connector)s to upstream servers. The program that runs it
//! takes part through [`Node::local`]:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use downbeat_crypto::{AgentSecret, random_session_id};
//! use downbeat_node::Node;
//! use downbeat_protocol::{Header, Owner, Ruleset, Transaction};
//! use downbeat_storage::MemoryStorage;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Two nodes, of which one is the other's upstream, take five lines.
//! let server = Node::builder(Arc::new(MemoryStorage::new())).start()?;
//! let edge = Node::builder(Arc::new(MemoryStorage::new())).start()?;
//! let (up, down) = downbeat_transport::pair(64);
//! server.connect(down).await?;
//! edge.connect_upstream("server", up).await?;
//!
//! // One creates a CoValue, and writes to it.
//! let me = AgentSecret::generate()?;
//! let session = random_session_id(&Owner::Agent(me.agent()))?;
//! let set = r#"[{"key":"greeting","op":"set","value":"hello"}]"#;
//! let mut map = edge.local().create(Header::builder("comap", Ruleset::UnsafeAllowAll).build()?).await?;
//! map.append(&session, [Transaction::trusting(set, 1_700_000_000_000, None)], me.signer_secret()).await?;
//! map.synced(Duration::from_secs(10)).await?;
//!
//! // The other reads it.
//! let copy = server.local().load(map.id(), Duration::from_secs(10)).await?;
//! let log = copy.content().session(&session).expect("it has been acknowledged");
//! assert_eq!(log.transactions()[0].changes().as_deref(), Some(set));
//!
//! edge.shutdown().await?;
//! server.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! - [`Local`] creates and loads CoValues. A [`LocalValue`] is one with its content in memory, to
//!   be read and written; [`Updates`] is the content of one piece by piece, of whatever size.
//! - [`Limits`] bound what peers may do, and [`Access`] says whose content is stored. What is
//!   refused is answered, counted, and told in the log.
//! - [`Node::stats`] tells what the node has done and how it is, and [`Node::ready`] whether it can
//!   do its work.
//! - [`Node::disconnect`] ends connections that are not welcome any longer.
//! - [`Node::shutdown`] finishes what was taken in. Dropping a node does not.
//!
//! What is acknowledged to anybody, this program or a peer, is durable in the node's storage. When
//! storage fails, nothing is acknowledged, and everything goes on by itself when it works again.
//! [`docs/architecture.md`] shows the way of a message through the node, and [`docs/access.md`] what
//! is let in.
//!
//! [`docs/architecture.md`]: https://github.com/downbeat-sync/downbeat/blob/main/docs/architecture.md
//! [`docs/access.md`]: https://github.com/downbeat-sync/downbeat/blob/main/docs/access.md

mod access;
mod apart;
mod builder;
mod connection;
mod contained;
mod ending;
mod engine;
mod erasing;
mod failure;
mod gate;
mod limits;
mod loader;
mod local;
mod node;
mod reading;
mod ready;
mod stats;
mod synced;
mod upstream;
mod usage;
mod verifier;
mod writer;
mod writing;

pub use access::{Access, AccountList};
pub use builder::NodeBuilder;
pub use downbeat_sync::{Config as SyncConfig, Rejection};
pub use limits::{KeyLimits, Limits, Rates};
pub use local::{Local, LocalError, LocalValue, Updates};
pub use node::{Node, NodeError};
pub use ready::{Readiness, StorageTrouble};
pub use stats::{
    AccountStats, BackPressureStats, DisconnectStats, EndStats, Histogram, KeyStats, LimitStats,
    MemoryStats, MessageStats, PeerStats, Refused, RejectionStats, Stats, StorageStats, Traffic,
    TrafficStats, UpstreamStats,
};
