//! Transport traits, an in-process pair and a conformance suite for the Jazz sync protocol.
//!
//! A [`Connection`] carries [`Message`](downbeat_protocol::Message)s in both directions. It comes
//! from a [`Listener`] (peers connect to us) or a [`Connector`] (we connect to a peer), and
//! consists of a [`Sender`] and a [`Receiver`], one for each of two tasks. No buffer grows without
//! bound: a peer that does not read makes [`Sender::send`] wait, and unread messages stay with the
//! peer.
//!
//! A bad message inside a frame is reported in [`Incoming::rejected`], and the connection goes on.
//! A [`TransportError`] ends the connection and says who is to [`Blame`].
//!
//! ```
//! use downbeat_protocol::Message;
//! use downbeat_transport::{CloseCode, CloseReason, pair};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let (mut left, mut right) = pair(16);
//! left.sender.send(&[Message::ReconcileAck("batch 1".into())]).await?;
//! left.sender.close(CloseReason::new(CloseCode::Normal, "done")).await?;
//!
//! let frame = right.receiver.receive().await?.expect("sent before the close");
//! assert_eq!(frame.messages, [Message::ReconcileAck("batch 1".into())]);
//! assert!(right.receiver.receive().await?.is_none());
//! # Ok::<(), downbeat_transport::TransportError>(())
//! # }).unwrap();
//! ```
//!
//! [`Admission`] decides during the handshake whether a peer may connect. [`TransportCounters`]
//! count the events of a transport.
//!
//! # Features
//!
//! - `conformance`: the suite that every transport runs in its own tests.
//! - `net`: connection limits and trusted proxies for TCP listeners.
//! - `tls`: certificates and trusted authorities.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod admission;
#[cfg(feature = "conformance")]
pub mod conformance;
mod connection;
mod counters;
mod error;
#[cfg(feature = "net")]
pub mod net;
mod pair;
mod peer;
#[cfg(feature = "tls")]
pub mod tls;

pub use admission::{Admission, AdmissionRefusal, AdmissionRequest, Admitted, RefusalKind};
pub use connection::{
    CloseCode, CloseReason, Connection, Connector, Incoming, Listener, Receiver, Sender,
};
pub use counters::{Counter, TransportCounters, TransportSnapshot};
pub use error::{Blame, DroppedFrame, TransportError};
pub use pair::pair;
pub use peer::{ApiKey, InvalidApiKey, PeerInfo};
