//! The traits that every transport implements.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use downbeat_protocol::Message;

use crate::error::{DroppedFrame, TransportError};
use crate::peer::PeerInfo;

/// One established connection to a peer, with a half for the reading task and one for the writing
/// task.
///
/// Dropping both halves ends the connection without a close; [`Sender::close`] sends the reason
/// first.
pub struct Connection {
    /// The peer.
    pub info: PeerInfo,
    /// Sends messages to the peer.
    pub sender: Box<dyn Sender>,
    /// Receives the peer's messages.
    pub receiver: Box<dyn Receiver>,
}

/// The sending half of a connection.
///
/// The caller runs one method at a time. A call that is dropped early may have sent some of its
/// messages: the first ones, each of them whole. The connection stays usable, and the next call
/// finishes a message that was begun.
#[async_trait]
pub trait Sender: Send {
    /// Sends these messages in order. The transport decides how to batch them.
    ///
    /// Returns once the transport has passed them on and has room again. A peer that does not read
    /// therefore makes the caller wait. An empty slice sends nothing. Returns the number of encoded
    /// bytes.
    ///
    /// [`TransportError::Closed`] after either side has closed; any error means that the
    /// connection is over.
    async fn send(&mut self, messages: &[Message]) -> Result<usize, TransportError>;

    /// The interval at which the peer wants keepalives, with or without traffic; `None` if it wants
    /// none.
    fn keep_alive_interval(&self) -> Option<Duration>;

    /// Sends one keepalive; does nothing on a transport without keepalives. Waits and fails as
    /// [`send`](Self::send) does.
    async fn keep_alive(&mut self) -> Result<(), TransportError>;

    /// Ends the connection in both directions. Earlier messages still arrive; then the peer sees
    /// the end, and the reason if the transport carries it.
    ///
    /// Waits for a slow peer for a bounded time. Our receiver may still return messages that the
    /// peer sent before, and then ends. Closing again does nothing.
    async fn close(&mut self, reason: CloseReason) -> Result<(), TransportError>;
}

/// The receiving half of a connection.
#[async_trait]
pub trait Receiver: Send {
    /// The peer's next frame; `None` after an orderly close by either side, when no frame is left.
    ///
    /// Dropping the call loses no frame. After `None` or an error every further call returns
    /// `None`.
    async fn receive(&mut self) -> Result<Option<Incoming>, TransportError>;
}

/// Accepts connections from peers.
#[async_trait]
pub trait Listener: Send {
    /// The next connection whose handshake is complete.
    ///
    /// Dropping the call loses no connection. The listener drops failed handshakes itself; an error
    /// means that no further connection will come.
    async fn accept(&mut self) -> Result<Connection, TransportError>;

    /// The URL for peers: `ws://127.0.0.1:4200`.
    fn url(&self) -> String;
}

/// Connects to one peer, as often as it is asked.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Tries once to connect. The transport limits the time.
    async fn connect(&self) -> Result<Connection, TransportError>;

    /// The peer's name, for logs and for the selection of upstreams: a URL without a key.
    fn name(&self) -> &str;
}

/// The content of one frame. A keepalive has no messages and no rejections.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Incoming {
    /// The messages in order.
    pub messages: Vec<Message>,
    /// The parts that were dropped.
    pub rejected: Vec<DroppedFrame>,
    /// The size of the encoded frame; 0 if the transport does not encode.
    pub bytes: usize,
}

/// The reason for closing a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason {
    /// The kind of reason.
    pub code: CloseCode,
    /// A sentence for people who debug the other side. A transport may shorten it.
    pub text: String,
}

/// The kind of reason for closing a connection, with its WebSocket close code (RFC 6455, 7.4.1 and
/// its registry).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCode {
    /// The connection is not needed any more (1000).
    Normal,
    /// This side is shutting down; the peer may reconnect later (1001).
    GoingAway,
    /// The peer broke the protocol (1002).
    ProtocolError,
    /// The peer did something that it is not allowed to do (1008).
    PolicyViolation,
    /// The peer sent a frame over the size limit (1009).
    TooLarge,
    /// This side has failed (1011).
    InternalError,
    /// This side is overloaded; the peer may reconnect later (1013).
    TryAgainLater,
}

impl CloseReason {
    /// A reason with its text.
    pub fn new(code: CloseCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The start of the text that fits into `max` bytes and ends between two characters.
    pub fn text_within(&self, max: usize) -> &str {
        self.text.get(..self.text.floor_char_boundary(max)).unwrap_or_default()
    }
}

impl CloseCode {
    /// The WebSocket close code.
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
