//! A connection within one process.

use std::time::Duration;

use async_trait::async_trait;
use downbeat_protocol::Message;
use tokio::sync::{mpsc, watch};

use crate::connection::{CloseReason, Connection, Incoming, Receiver, Sender};
use crate::error::TransportError;
use crate::peer::PeerInfo;

/// The most messages that one [`Receiver::receive`] returns. Other transports limit a frame by its
/// bytes; here nothing is encoded.
const MAX_MESSAGES_PER_FRAME: usize = 256;

/// Creates two connected ends. In each direction at most `capacity` messages wait (at least one).
///
/// Messages are not encoded. Cloning one shares its bytes.
pub fn pair(capacity: usize) -> (Connection, Connection) {
    let capacity = capacity.max(1);
    let (to_right, from_left) = mpsc::channel(capacity);
    let (to_left, from_right) = mpsc::channel(capacity);
    let (left_open, left_state) = watch::channel(());
    let (right_open, right_state) = watch::channel(());
    let left = Connection {
        info: PeerInfo::new("in-process (right)"),
        sender: PairSender::boxed(to_right, left_open, right_state.clone()),
        receiver: Box::new(PairReceiver { incoming: from_right, open: left_state.clone() }),
    };
    let right = Connection {
        info: PeerInfo::new("in-process (left)"),
        sender: PairSender::boxed(to_left, right_open, left_state),
        receiver: Box::new(PairReceiver { incoming: from_left, open: right_state }),
    };
    (left, right)
}

struct PairSender {
    open: Option<Open>,
    /// Ends when the peer closes. Its receiver may still exist, but takes no further messages.
    peer_open: watch::Receiver<()>,
}

/// Keeps a direction open; the other side sees the end when this is dropped.
struct Open {
    outgoing: mpsc::Sender<Message>,
    _open: watch::Sender<()>,
}

impl PairSender {
    fn boxed(
        outgoing: mpsc::Sender<Message>,
        open: watch::Sender<()>,
        peer_open: watch::Receiver<()>,
    ) -> Box<Self> {
        Box::new(Self { open: Some(Open { outgoing, _open: open }), peer_open })
    }
}

#[async_trait]
impl Sender for PairSender {
    async fn send(&mut self, messages: &[Message]) -> Result<usize, TransportError> {
        let open = self.open.as_ref().ok_or(TransportError::Closed)?;
        for message in messages {
            let permit = tokio::select! {
                biased;
                // The value never changes, so this resolves only when the peer's end is dropped.
                _ = self.peer_open.changed() => None,
                permit = open.outgoing.reserve() => permit.ok(),
            };
            permit.ok_or(TransportError::Closed)?.send(message.clone());
        }
        Ok(0)
    }

    fn keep_alive_interval(&self) -> Option<Duration> {
        None
    }

    async fn keep_alive(&mut self) -> Result<(), TransportError> {
        self.open.as_ref().map(|_| ()).ok_or(TransportError::Closed)
    }

    async fn close(&mut self, _reason: CloseReason) -> Result<(), TransportError> {
        self.open = None;
        Ok(())
    }
}

struct PairReceiver {
    incoming: mpsc::Receiver<Message>,
    /// Ends when our own sender closes. Then only messages that are already queued come.
    open: watch::Receiver<()>,
}

#[async_trait]
impl Receiver for PairReceiver {
    async fn receive(&mut self) -> Result<Option<Incoming>, TransportError> {
        let mut messages = Vec::new();
        loop {
            tokio::select! {
                biased;
                count = self.incoming.recv_many(&mut messages, MAX_MESSAGES_PER_FRAME) => {
                    let frame = Incoming { messages, ..Incoming::default() };
                    return Ok((count > 0).then_some(frame));
                }
                // The value never changes, so this resolves only when our own end is dropped.
                _ = self.open.changed(), if !self.incoming.is_closed() => self.incoming.close(),
            }
        }
    }
}
