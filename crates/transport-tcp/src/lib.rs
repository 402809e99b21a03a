//! Length-delimited bincode frames over TCP, between Downbeat nodes and Rust programs.
//!
//! [`TcpListener`] accepts connections and [`TcpConnector`] makes them, at `tcp://host:port` or,
//! with TLS, at `tcps://host:port`. Both sides first exchange their names and protocol versions,
//! and a listener may require a key, as for WebSocket clients. [`docs/transport-tcp.md`] describes
//! the format byte by byte.
//!
//! Compared with the WebSocket transport, frames are not masked, messages are somewhat smaller,
//! both sides batch from the start, and both send keepalives, so that each side notices when the
//! other one is gone.
//!
//! [`connect_over`] and [`accept_over`] speak the same protocol over any stream, such as a Unix
//! socket.
//!
//! ```
//! use downbeat_protocol::Message;
//! use downbeat_transport::{Connector, Listener};
//! use downbeat_transport_tcp::{TcpConnector, TcpListener, TcpOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let mut listener = TcpListener::bind("127.0.0.1:0", TcpOptions::default()).await?;
//! let connector = TcpConnector::new(&listener.url(), TcpOptions::default())?;
//! let (client, server) = tokio::join!(connector.connect(), listener.accept());
//! let (mut client, mut server) = (client?, server?);
//!
//! client.sender.send(&[Message::ReconcileAck("batch 1".into())]).await?;
//! let frame = server.receiver.receive().await?.expect("the connection is open");
//! assert_eq!(frame.messages, [Message::ReconcileAck("batch 1".into())]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! [`docs/transport-tcp.md`]: https://github.com/downbeat-sync/downbeat/blob/main/docs/transport-tcp.md

mod connector;
mod frame;
mod handshake;
mod hello;
mod listener;
mod options;
mod receiver;
mod sender;
mod shared_stream;
mod url;

pub use connector::{TcpConnector, connect_over};
pub use listener::{TcpListener, accept_over};
pub use options::TcpOptions;
pub use url::InvalidUrl;
