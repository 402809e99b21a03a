//! Downbeat: a sync server for [Jazz](https://jazz.tools) applications, as a library.
//!
//! A [`Node`] syncs CoValues between clients, a [`storage`] and upstream servers. This crate
//! re-exports the node with its storages and transports, so that a program needs one dependency. A
//! server for Jazz clients:
//!
//! ```
//! use downbeat::{Listener, Node, SledStorage, WsListener, WsOptions};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("data");
//! # let address = "127.0.0.1:0";
//! let listener = WsListener::bind(address, WsOptions::default()).await?;
//! println!("listening on {}", listener.url());
//! let node = Node::builder(SledStorage::open(path)?).listen(listener).start()?;
//!
//! # async fn ctrl_c() -> std::io::Result<()> { Ok(()) }
//! ctrl_c().await?;
//! node.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Node::local`] reads and writes CoValues from the same program.
//!
//! # Features
//!
//! | feature | content |
//! |---|---|
//! | `cli` (default) | the `downbeat` binary; turns on `sled`, `sqlite`, `ws` and `tcp` |
//! | `sled` | `SledStorage`, the embedded store |
//! | `sqlite` | `SqliteStorage`, an SQLite file like that of the reference server |
//! | `ws` | `WsListener` and `WsConnector`, the transport of Jazz clients |
//! | `tcp` | `TcpListener` and `TcpConnector`, for nodes and Rust programs |
//! | `otel` | traces of the binary over OTLP |
//!
//! A library does not need the binary:
//!
//! ```sh
//! cargo add downbeat --no-default-features --features sled,ws
//! ```
//!
//! # Modules
//!
//! Each module is one crate of the workspace: [`storage`] is `downbeat-storage`. A program that
//! needs a single part, such as the messages of the [`protocol`], can depend on that crate alone.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub use downbeat_core as core;
pub use downbeat_crypto as crypto;
pub use downbeat_node as node;
pub use downbeat_protocol as protocol;
pub use downbeat_storage as storage;
#[cfg(feature = "sled")]
pub use downbeat_storage_sled as storage_sled;
#[cfg(feature = "sqlite")]
pub use downbeat_storage_sqlite as storage_sqlite;
pub use downbeat_transport as transport;
#[cfg(feature = "tcp")]
pub use downbeat_transport_tcp as transport_tcp;
#[cfg(feature = "ws")]
pub use downbeat_transport_ws as transport_ws;

pub use downbeat_node::{Local, LocalValue, Node, NodeBuilder, NodeError};
pub use downbeat_protocol::{CoValueId, Header, Ruleset, SessionId, Transaction};
pub use downbeat_storage::{MemoryStorage, Storage};
#[cfg(feature = "sled")]
pub use downbeat_storage_sled::{SledOptions, SledStorage};
#[cfg(feature = "sqlite")]
pub use downbeat_storage_sqlite::{SqliteOptions, SqliteSchema, SqliteStorage};
pub use downbeat_transport::{Connector, Listener};
#[cfg(feature = "tcp")]
pub use downbeat_transport_tcp::{TcpConnector, TcpListener, TcpOptions};
#[cfg(feature = "ws")]
pub use downbeat_transport_ws::{WsConnector, WsListener, WsOptions};
