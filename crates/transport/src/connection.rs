//! The traits that every transport implements.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use downbeat_protocol::Message;

use crate::error::{Rejection, TransportError};
use crate::peer::PeerInfo;

/// One established connection to a peer, before it is split between the task that reads and the
/// task that writes.
///
/// Dropping both halves ends the connection without a word; [`Sender::close`] says why first.
pub struct Connection {
    /// Who is at the other end.
    pub info: PeerInfo,
    /// Carries our messages.
    pub sender: Box<dyn Sender>,
    /// Brings the peer's messages.
    pub receiver: Box<dyn Receiver>,
}

/// The sending half of a connection.
///
/// No method is called while another runs. A call that is dropped before it returned may have sent
/// any number of its messages, from the first on and each of them whole; the connection stays
/// usable, and what had been begun is finished by the next call.
#[async_trait]
pub trait Sender: Send {
    /// Sends these messages, in this order, batched as the transport sees fit.
    ///
    /// Returns when the transport has handed them on and has room again: a peer that does not read
    /// makes this wait, so that the caller holds back what it has not produced yet. An empty slice
    /// sends nothing. Returns the bytes that were handed on, as the transport encodes them.
    ///
    /// [`TransportError::Closed`] after either side has closed; any error means that the
    /// connection is over.
    async fn send(&mut self, messages: &[Message]) -> Result<usize, TransportError>;

    /// How often the peer wants a sign of life from us, traffic or not; `None` if it wants none.
    fn keep_alive_interval(&self) -> Option<Duration>;

    /// Sends one sign of life; does nothing where the transport has none. Waits and fails as
    /// [`send`](Self::send) does.
    async fn keep_alive(&mut self) -> Result<(), TransportError>;

    /// Ends the connection in both directions: what was sent before still arrives, then the peer
    /// sees the end (and the reason, where the transport carries it).
    ///
    /// Waits for a slow peer only for a bounded time. The own receiver may still bring what the
    /// peer had sent before, and ends then. Closing again does nothing.
    async fn close(&mut self, reason: CloseReason) -> Result<(), TransportError>;
}

/// The receiving half of a connection.
#[async_trait]
pub trait Receiver: Send {
    /// The peer's next frame; `None` when either side has closed the connection in order and
    /// nothing is left.
    ///
    /// The call may be dropped at any time without losing a frame. After `None` or an error every
    /// further call is `None`.
    async fn receive(&mut self) -> Result<Option<Incoming>, TransportError>;
}

/// Takes the connections that peers make to us.
#[async_trait]
pub trait Listener: Send {
    /// The next connection whose handshake is complete.
    ///
    /// The call may be dropped at any time without losing a connection. Handshakes that fail are
    /// the listener's own affair; an error means that no further connection will come.
    async fn accept(&mut self) -> Result<Connection, TransportError>;

    /// What a peer connects to, as a URL: `ws://127.0.0.1:4200`.
    fn url(&self) -> String;
}

/// Makes connections to one peer, again and again.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Tries once to connect, within a time that the transport bounds.
    async fn connect(&self) -> Result<Connection, TransportError>;

    /// The peer's name for logs and for choosing among upstreams: a URL without any key.
    fn name(&self) -> &str;
}

/// What one frame of the peer held.
///
/// All may be empty: a sign of life.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Incoming {
    /// The messages, in their order.
    pub messages: Vec<Message>,
    /// What was dropped.
    pub rejected: Vec<Rejection>,
    /// The frame's size as it came; 0 where the transport does not encode.
    pub bytes: usize,
}

/// Why we end a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason {
    /// The kind of reason.
    pub code: CloseCode,
    /// A sentence for whoever debugs the other side. Transports cut it to what they can carry.
    pub text: String,
}

/// The kinds of reasons for ending a connection, with the WebSocket close codes (RFC 6455, 7.4.1
/// and its registry) that stand for them where a transport carries a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCode {
    /// The purpose is fulfilled (1000).
    Normal,
    /// This side is shutting down; connecting again later makes sense (1001).
    GoingAway,
    /// The peer broke the protocol (1002).
    ProtocolError,
    /// The peer may not do what it did, or is not allowed here (1008).
    PolicyViolation,
    /// The peer sent too much at once (1009).
    TooLarge,
    /// This side failed (1011).
    InternalError,
    /// This side has too much to do; connecting again later makes sense (1013).
    TryAgainLater,
}

impl CloseReason {
    /// A reason with its explanation.
    pub fn new(code: CloseCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl CloseCode {
    /// The code's number.
    pub fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::ProtocolError => 1002,
            Self::PolicyViolation => 1008,
            Self::TooLarge => 1009,
            Self::InternalError => 1011,
            Self::TryAgainLater => 1013,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("info", &self.info).finish_non_exhaustive()
    }
}
