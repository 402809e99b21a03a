//! What goes into the machine.

use std::sync::Arc;

use downbeat_crypto::HashChain;
use downbeat_protocol::{
    CoValueId, Header, Message, SessionContent, SessionCounts, SessionId, ShortHash,
};

use crate::rejection::Rejection;

/// Milliseconds since an arbitrary start; never goes back. The machine has no clock of its own.
pub type Millis = u64;

/// A connection to a peer. Never used again after the connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// The name of an upstream server: the same one at every connection to it, and what decides which
/// CoValues it is asked for.
pub type UpstreamName = Arc<str>;

/// What a peer is to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It connected to us, and is served.
    Client,
    /// We connected to it: it is asked for what we lack, and given what we have.
    Upstream(UpstreamName),
}

/// Something that has happened.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "events are moved once or twice, and a box for each completion would cost more"
)]
pub enum Event {
    /// A connection is established.
    Connected {
        /// The connection.
        peer: PeerId,
        /// What the peer is to us.
        role: Role,
    },
    /// A connection has ended, from whichever side.
    Disconnected(PeerId),
    /// A peer has sent a message.
    Received {
        /// Who sent it.
        peer: PeerId,
        /// What it says.
        message: Message,
    },
    /// The runtime refuses a message of a peer, or a part of one, without handing it on.
    Refused {
        /// The sender of the message.
        peer: PeerId,
        /// The CoValue.
        id: CoValueId,
        /// What is refused.
        refusal: Refusal,
    },
    /// A [`crate::Action::Load`] is done.
    Loaded {
        /// The CoValue.
        id: CoValueId,
        /// What storage has of it, or that it could not tell.
        result: Result<Option<Box<Loaded>>, StorageFailed>,
    },
    /// A [`crate::Action::Verify`] is done.
    Verified(Verified),
    /// A [`crate::Action::Store`] is durable.
    Stored(Stored),
    /// A [`crate::Action::Turn`] has been written to the peer's connection.
    TurnDone {
        /// The peer, which has room for more.
        peer: PeerId,
        /// The content items that were not sent whole, or of which more was sent than asked.
        progress: Vec<Progress>,
    },
    /// A [`crate::Action::ListUnsynced`] is done.
    Unsynced {
        /// The upstream.
        upstream: UpstreamName,
        /// CoValues that it has not acknowledged in full; empty if there are no more.
        ids: Vec<CoValueId>,
    },
    /// A [`crate::Action::ListStored`] is done.
    Listed {
        /// The upstream.
        upstream: UpstreamName,
        /// CoValues in storage, in the order of their ids, with the hash of their sessions; empty
        /// if there are no more.
        values: Vec<(CoValueId, ShortHash)>,
    },
    /// Nothing but the passing of time.
    Tick,
}

impl Event {
    /// The CoValue that the event is about, if it is about one.
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

/// What the runtime refuses of a peer's part in a CoValue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// A LOAD. No upstream is asked, and the peer hears that the CoValue is not here.
    Load,
    /// A message with the header of a CoValue. The peer is told that the CoValue is not here. Until a
    /// header is handed on, nothing is said to the peer that would make it send the CoValue again. An
    /// upstream counts as not having it.
    Content,
    /// A CoValue that was refused on an earlier connection of a client. Until a header is handed on,
    /// nothing is said to the client that would make it send the CoValue again.
    Earlier,
    /// The content of one session. Until content is handed on that follows what is stored, gaps in
    /// the session are not corrected: the correction would make the peer send the content again.
    Session(SessionId),
}

/// What storage has of a CoValue: enough to answer for it, and none of its content.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The header.
    pub header: Header,
    /// Transactions per session.
    pub sessions: SessionCounts,
    /// The CoValues that this one depends on, from header, sessions and group transactions.
    pub dependencies: Vec<CoValueId>,
    /// Whether it has been deleted.
    pub deleted: bool,
}

/// Storage could not answer. What and why is in the runtime's log; the machine only waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageFailed;

/// The outcome of a [`crate::VerifyJob`].
#[derive(Debug)]
pub struct Verified {
    /// The CoValue.
    pub id: CoValueId,
    /// The session.
    pub session: SessionId,
    /// The runs of the job that verified: all of them, or those before the first that did not.
    pub accepted: Vec<SessionContent>,
    /// The session's hash chain after the accepted runs; absent where it could not be had.
    pub chain: Option<HashChain>,
    /// Why the run after the accepted ones was refused, if not all were accepted.
    pub rejection: Option<Rejection>,
}

/// The outcome of a [`crate::StoreJob`].
#[derive(Debug)]
pub struct Stored {
    /// The CoValue.
    pub id: CoValueId,
    /// The sessions' counts that are durable now.
    pub durable: SessionCounts,
    /// Another writer was there first: what the machine knows of this CoValue is out of date.
    pub conflict: bool,
}

/// How far a [`crate::ContentItem`] got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The CoValue.
    pub id: CoValueId,
    /// The item's epoch.
    pub epoch: u32,
    /// Whether the peer has the header by now: it was sent, or the item was not to send it.
    pub header: bool,
    /// Whether pieces of the sequence have been sent, by this item or one that it continues.
    pub started: bool,
    /// The counts that the peer has after what was sent, for each of the item's sessions, those of
    /// which it has nothing among them.
    pub reached: Vec<(SessionId, u64)>,
    /// Whether the rest could not be read. It is not tried again before something changes.
    pub stalled: bool,
}
