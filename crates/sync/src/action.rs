//! What comes out of the machine.

use downbeat_core::delete::Claim;
use downbeat_crypto::HashChain;
use downbeat_protocol::{
    CoValueId, Header, Message, SessionContent, SessionCounts, SessionId, SignerId,
};

use crate::event::{PeerId, UpstreamName};
use crate::report::Report;

/// Something that the runtime is to do. Actions are carried out in their order; those with a
/// completion event may be under way together.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "actions are moved once or twice, and a box for each job would cost more"
)]
pub enum Action {
    /// Write these to a peer's connection, then report [`crate::Event::TurnDone`]. A peer has one
    /// turn at a time, so what waits for a slow peer waits in the machine, as a set of CoValues.
    Turn {
        /// The peer.
        peer: PeerId,
        /// What to write, in this order.
        items: Vec<Item>,
    },
    /// Find out what storage has of a CoValue, then report [`crate::Event::Loaded`].
    Load(CoValueId),
    /// Check signatures, then report [`crate::Event::Verified`].
    Verify(VerifyJob),
    /// Make content durable, then report [`crate::Event::Stored`]. From this action on the
    /// content can be asked for by turns. The stores of one CoValue are carried out in order.
    Store(StoreJob),
    /// Note durably whether an upstream has acknowledged all of a CoValue. Carried out before the
    /// stores that follow, so that no CoValue is stored and forgotten. The same may be said again:
    /// the last word on a CoValue and an upstream counts.
    Track {
        /// The CoValue.
        id: CoValueId,
        /// The upstream.
        upstream: UpstreamName,
        /// Whether it has acknowledged everything.
        synced: bool,
    },
    /// Find the next CoValues that an upstream has not acknowledged, then report
    /// [`crate::Event::Unsynced`].
    ListUnsynced {
        /// The upstream.
        upstream: UpstreamName,
        /// The last CoValue of the page before.
        after: Option<CoValueId>,
        /// How many to find at most.
        limit: usize,
    },
    /// Find the next CoValues in storage, then report [`crate::Event::Listed`].
    ListStored {
        /// The upstream that they are to be compared with.
        upstream: UpstreamName,
        /// The last CoValue of the page before.
        after: Option<CoValueId>,
        /// How many to find at most.
        limit: usize,
    },
    /// This much of a peer's content, in bytes of transactions, is not in the machine's care any
    /// longer: the peer may send as much again.
    Release {
        /// The peer.
        peer: PeerId,
        /// Bytes of transactions.
        bytes: u64,
    },
    /// Tell the operator.
    Report(Report),
}

/// One thing to write to a peer.
#[derive(Debug)]
pub enum Item {
    /// A message, as it is.
    Message(Message),
    /// Content, to be read and cut into messages.
    Content(ContentItem),
}

/// Content to be sent to a peer. The runtime sends as many pieces as its budget for one turn
/// allows, and reports how far it got if that is not up to `until`.
#[derive(Debug)]
pub struct ContentItem {
    /// The CoValue.
    pub id: CoValueId,
    /// The header: sent with the first piece if `with_header`, and the source of the priority.
    pub header: Header,
    /// Whether the peer lacks the header.
    pub with_header: bool,
    /// What the peer has.
    pub have: SessionCounts,
    /// What the peer is to have in the end: only the sessions of which it lacks something.
    pub until: SessionCounts,
    /// Counts that are expected to come from elsewhere while this is sent, beyond `until`: what
    /// the peer is told to expect in the end is both together.
    pub announced: SessionCounts,
    /// Whether these pieces go on with a sequence whose end has been announced
    /// (`expectContentUntil`) to the peer before.
    pub continuation: bool,
    /// Echoed in [`crate::Progress`]: tells the machine whether the peer's state has been replaced
    /// since.
    pub epoch: u32,
}

/// Runs of one session's transactions to verify, following each other.
#[derive(Debug)]
pub struct VerifyJob {
    /// The CoValue.
    pub id: CoValueId,
    /// The session.
    pub session: SessionId,
    /// The number of transactions before the first run.
    pub after: u64,
    /// The session's hash chain up to there. Where it is absent and `after` is not 0, it is made
    /// by reading the log.
    pub chain: Option<HashChain>,
    /// Whose signature is expected.
    pub signer: SignerId,
    /// The runs, each ending at a signature.
    pub runs: Vec<SessionContent>,
    /// Runs as the peer sent them that begin before `after`, and so claim to be, at least in part,
    /// what is there already. If their transactions are others, the author has forked its session
    /// (signed two histories), or somebody has made them up: nothing of the job is accepted then.
    pub repeated: Vec<SessionContent>,
    /// What has to be checked besides the signatures, if the runs delete the CoValue: whether
    /// their author was an admin of the owning group at the time.
    pub claim: Option<Claim>,
}

/// Verified content to make durable.
#[derive(Debug)]
pub struct StoreJob {
    /// The CoValue.
    pub id: CoValueId,
    /// The header, if the CoValue is new.
    pub header: Option<Header>,
    /// Runs of transactions, each following what is stored or what comes before it here.
    pub sessions: Vec<SessionContent>,
    /// Whether this deletes the CoValue: only header and delete sessions are kept.
    pub delete: bool,
    /// The peer that sent the runs, or what the header came with where there are none. It may have
    /// left since.
    pub author: Option<PeerId>,
}
