//! WebSocket transport for Downbeat, as Jazz clients speak it.
//!
//! [`WsListener`] is the server's side: it accepts WebSocket upgrades on any path, with or without
//! `?key=`, and answers plain HTTP on the same port: `GET /health` itself, other paths with
//! [`Routes`]. [`WsConnector`] is the client's side. [`connect_over`] and [`accept_over`] speak the
//! same protocol over any stream, such as a Unix socket.
//!
//! One text frame contains one JSON message, or several joined by line breaks. A client batches
//! from the start, a server once its client has sent a batch. Bad input has a bounded cost and
//! affects only the peer that sent it: [`WsOptions`] holds the limits.
//!
//! ```
//! use downbeat_protocol::Message;
//! use downbeat_transport::{Connector, Listener};
//! use downbeat_transport_ws::{WsConnector, WsListener, WsOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let mut listener = WsListener::bind("127.0.0.1:0", WsOptions::default()).await?;
//! let connector = WsConnector::new(&listener.url(), WsOptions::default())?;
//! let (client, server) = tokio::join!(connector.connect(), listener.accept());
//! let (mut client, mut server) = (client?, server?);
//!
//! client.sender.send(&[Message::ReconcileAck("batch 1".into())]).await?;
//! let frame = server.receiver.receive().await?.expect("the connection is open");
//! assert_eq!(frame.messages, [Message::ReconcileAck("batch 1".into())]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod connection;
mod connector;
mod frame_reader;
mod handshake;
mod listener;
mod options;
mod receiver;
mod routes;
mod sender;
mod socket;
mod upgrade;
mod url;

pub use connector::{WsConnector, connect_over};
pub use listener::{WsListener, accept_over};
pub use options::WsOptions;
pub use routes::{RouteRequest, RouteResponse, Routes};
pub use url::{InvalidUrl, WsUrl};
