//! The runtime of Downbeat: the sync machine composed with a storage and transports.
//!
//! [`Node::builder`] builds a [`Node`] from any
//! [`Storage`](downbeat_storage::Storage), any number of
//! [`Listener`](downbeat_transport::Listener)s for clients, and any number of
//! [`Connector`](downbeat_transport::Connector)s to upstream servers. The program that runs it
//! takes part through [`Node::local`]:
//!
//! ```
//! use std::time::Duration;
//!
//! use downbeat_crypto::{AgentSecret, random_session_id};
//! use downbeat_node::Node;
//! use downbeat_protocol::{Header, Owner, Ruleset, Transaction};
//! use downbeat_storage::MemoryStorage;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Two nodes, one as the other's upstream, take five lines.
//! let server = Node::builder(MemoryStorage::new()).start()?;
//! let edge = Node::builder(MemoryStorage::new()).start()?;
//! let (up, down) = downbeat_transport::pair(64);
//! server.connect(down).await?;
//! edge.connect_upstream("server", up).await?;
//!
//! // The edge creates a CoValue and writes to it.
//! let me = AgentSecret::generate()?;
//! let session = random_session_id(&Owner::Agent(me.agent()))?;
//! let set = r#"[{"key":"greeting","op":"set","value":"hello"}]"#;
//! let mut map = edge.local().create(Header::builder("comap", Ruleset::UnsafeAllowAll).build()?).await?;
//! map.append(&session, [Transaction::trusting(set, 1_700_000_000_000, None)], me.signer_secret()).await?;
//! map.synced(Duration::from_secs(10)).await?;
//!
//! // The server reads it.
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
//! - [`Local`] creates, loads and lists CoValues. A [`LocalValue`] keeps the content of one in
//!   memory, for reading and writing; [`Updates`] delivers the content of one piece by piece,
//!   whatever its size.
//! - [`NodeLimits`] bound what peers may do, and [`Access`] lists the accounts whose content is
//!   stored. Rejections are answered, counted and logged.
//! - [`Node::stats`] returns the node's counters, and [`Node::ready`] whether it can do its work.
//! - [`Node::disconnect`] ends connections of clients.
//! - [`Node::shutdown`] stores and acknowledges all accepted content. Dropping a node does not.
//!
//! The node acknowledges content, to this program or to a peer, when it is durable in storage.
//! While storage fails, nothing is acknowledged; the node goes on by itself when storage works
//! again. [`docs/architecture.md`] shows the way of a message through the node, and
//! [`docs/access.md`] the rules by which content is accepted.
//!
//! [`docs/architecture.md`]: https://github.com/downbeat-sync/downbeat/blob/main/docs/architecture.md
//! [`docs/access.md`]: https://github.com/downbeat-sync/downbeat/blob/main/docs/access.md

mod access;
mod addresses;
mod builder;
mod byte_budget;
mod catch_panics;
mod connection;
mod context;
mod credit;
mod ending;
mod engine;
mod erasing;
mod error;
mod failure;
mod gone;
mod into;
mod limits;
mod link;
mod listening;
mod loader;
mod local;
mod lock;
mod node;
mod output;
mod places;
mod policy;
mod poll_on_wake;
mod portions;
mod proof;
mod reading;
mod ready;
mod rounds;
mod shared;
mod source;
mod stage;
mod stats;
mod storage_watch;
mod synced;
mod throttle;
mod trouble;
mod turn_slot;
mod upstream;
mod usage;
mod verifier;
mod write_rounds;
mod writer;
mod writing;

pub use access::{Access, AccountList};
pub use builder::NodeBuilder;
pub use downbeat_sync::{Config as SyncConfig, MemoryUse, Rejection};
pub use error::NodeError;
#[doc(hidden)]
pub use into::{Bare, DynArc, DynBox, InArc, InBox};
pub use into::{IntoConnector, IntoListener, IntoStorage};
pub use limits::{KeyLimits, NodeLimits, Rates};
pub use local::{Local, LocalError, LocalValue, Updates};
pub use node::Node;
pub use ready::{Readiness, StorageTrouble};
pub use stats::{
    AccountStats, BackPressureStats, DisconnectStats, EndStats, Histogram, KeyStats, LimitStats,
    MemoryStats, MessageStats, PeerStats, Refused, RejectionStats, Stats, StorageStats, Traffic,
    TrafficStats, UpstreamStats,
};
