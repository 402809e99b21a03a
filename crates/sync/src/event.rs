//! The machine's input.

use downbeat_crypto::HashChain;
use downbeat_protocol::{
    CoValueId, Header, Message, SessionContent, SessionCounts, SessionId, ShortHash, UpstreamName,
};

use crate::rejection::Rejection;

/// Milliseconds since an arbitrary start; never goes back. The machine has no clock of its own.
pub type Millis = u64;

/// A connection to a peer. The number is not used again after the connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// The role of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerRole {
    /// It connected to us, and we serve it.
    Client,
    /// We connected to it: it is asked for CoValues that are not here, and given those that are.
    Upstream(UpstreamName),
}

/// Something that has happened.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "events are moved once or twice, and a box for each completion would cost more"
)]
pub enum Event {
    /// A peer has connected.
    Connected {
        /// The connection.
        peer: PeerId,
        /// The role of the peer.
        role: PeerRole,
    },
    /// A connection has ended.
    Disconnected(PeerId),
    /// A peer has sent a message.
    Received {
        /// The sender.
        peer: PeerId,
        /// The message.
        message: Message,
    },
    /// The runtime has refused a message of a peer, or a part of one, and does not pass it on.
    Refused {
        /// The sender of the message.
        peer: PeerId,
        /// The CoValue.
        id: CoValueId,
        /// The refused part.
        refusal: Refusal,
    },
    /// A [`crate::Action::Load`] is done.
    Loaded {
        /// The CoValue.
        id: CoValueId,
        /// The stored state, if the CoValue is stored; or an error.
        result: Result<Option<Box<Loaded>>, StorageFailed>,
    },
    /// A [`crate::Action::Verify`] is done.
    Verified(Verified),
    /// A [`crate::Action::Store`] is durable.
    Stored(Stored),
    /// A [`crate::Action::Turn`] has been written to the peer's connection.
    TurnDone {
        /// The peer, which has room for its next turn.
        peer: PeerId,
        /// The content items that were not sent completely, or that were sent beyond `until`.
        progress: Vec<Progress>,
    },
    /// A [`crate::Action::ListUnsynced`] is done.
    Unsynced {
        /// The upstream.
        upstream: UpstreamName,
        /// CoValues that it has not acknowledged in full. Empty at the end of the list.
        ids: Vec<CoValueId>,
    },
    /// A [`crate::Action::ListStored`] is done.
    Listed {
        /// The upstream.
        upstream: UpstreamName,
        /// CoValues in storage, in the order of their ids, with the hash of their sessions. Empty
        /// at the end of the list.
        values: Vec<(CoValueId, ShortHash)>,
    },
    /// Only time has passed.
    Tick,
}

impl Event {
    /// The CoValue that the event is about, if there is one.
    pub(crate) fn co_value(&self) -> Option<CoValueId> {
        match self {
            Self::Received { message, .. } => match message {
                Message::Load(state) => Some(state.id),
                Message::Known(known) => Some(known.state.id),
                Message::Content(content) => Some(content.id),
                Message::Done(_)
                | Message::Reconcile(_)
                | Message::ReconcileAck(_)
                | Message::Unknown(_) => None,
            },
            Self::Refused { id, .. } | Self::Loaded { id, .. } => Some(*id),
            Self::Verified(verified) => Some(verified.id),
            Self::Stored(stored) => Some(stored.id),
            Self::Connected { .. }
            | Self::Disconnected(_)
            | Self::TurnDone { .. }
            | Self::Unsynced { .. }
            | Self::Listed { .. }
            | Self::Tick => None,
        }
    }
}

/// What the runtime refuses from a peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// A LOAD. No upstream is asked, and the peer gets the answer that the CoValue is not here.
    Load,
    /// A message with the header of a CoValue. The peer gets the answer that the CoValue is not
    /// here. Until the runtime passes a header on, the peer gets no message that would make it send
    /// the CoValue again. An upstream counts as not having it.
    Content,
    /// A CoValue that was refused on an earlier connection of a client. Until the runtime passes a
    /// header on, the client gets no message that would make it send the CoValue again.
    Earlier,
    /// The content of one session. Until the runtime passes content on that follows the stored
    /// content, gaps in the session are not corrected, because a correction would make the peer
    /// send the content again.
    Session(SessionId),
}

/// The stored state of a CoValue, without its content.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The header.
    pub header: Header,
    /// Transactions per session.
    pub sessions: SessionCounts,
    /// The CoValues that this one depends on, by its header, sessions and group transactions.
    pub dependencies: Vec<CoValueId>,
    /// Whether it has been deleted.
    pub deleted: bool,
}

/// Storage could not answer. The runtime logs the reason; the machine asks again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageFailed;

/// The outcome of a [`crate::VerifyJob`].
#[derive(Debug)]
pub struct Verified {
    /// The CoValue.
    pub id: CoValueId,
    /// The session.
    pub session: SessionId,
    /// The valid runs of the job: all of them, or those before the first invalid one.
    pub accepted: Vec<SessionContent>,
    /// The session's hash chain after the accepted runs. Absent if it could not be computed.
    pub chain: Option<HashChain>,
    /// Why the run after the accepted ones was refused, if one was.
    pub rejection: Option<Rejection>,
}

/// The outcome of a [`crate::StoreJob`].
#[derive(Debug)]
pub struct Stored {
    /// The CoValue.
    pub id: CoValueId,
    /// The durable counts of the sessions in the job.
    pub durable: SessionCounts,
    /// Whether another writer has changed the CoValue, so that the machine's state of it is out of
    /// date.
    pub conflict: bool,
}

/// How far a [`crate::ContentItem`] got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The CoValue.
    pub id: CoValueId,
    /// The item's epoch.
    pub epoch: u32,
    /// Whether the peer has the header now: it was sent, or was not part of the item.
    pub header: bool,
    /// Whether pieces of the sequence have been sent, for this item or one that it continues.
    pub started: bool,
    /// The counts that the peer has now: what it had before the item, and what was sent.
    pub reached: SessionCounts,
    /// Whether the rest could not be read. It is not tried again before the CoValue changes.
    pub stalled: bool,
}
