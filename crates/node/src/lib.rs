//! The runtime of Downbeat: the sync machine composed with a storage and transports.

mod connection;
mod content;
mod delete;
mod engine;
mod loader;
mod node;
mod turn;
mod upstream;
mod verifier;
mod writer;

pub use downbeat_sync::Config as SyncConfig;
pub use node::{Node, NodeBuilder, NodeError};
