//! Length-delimited bincode frames over TCP, between Downbeat nodes and Rust programs.
//!
//! [`TcpListener`] takes connections and [`TcpConnector`] makes them, at `tcp://host:port` or,
//! encrypted, at `tcps://host:port`. Both sides say who they are and which versions of this
//! transport they speak before the first message, and a listener may ask for a key, as it does of
//! WebSocket clients. The format is described byte by byte in [`docs/transport-tcp.md`].
//!
//! Compared with the WebSocket transport, frames are not masked, messages somewhat smaller, both
//! sides batch from the start, and both show signs of life, so that a vanished server is noticed as
//! well as a vanished client.
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
mod link;
mod listener;
mod options;
mod receiver;
mod sender;
mod url;

pub use connector::TcpConnector;
pub use listener::TcpListener;
pub use options::TcpOptions;
pub use url::InvalidUrl;
