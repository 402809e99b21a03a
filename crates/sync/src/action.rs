//! The machine's output.

use downbeat_core::delete::Claim;
use downbeat_crypto::HashChain;
use downbeat_protocol::{
    CoValueId, Header, Message, SessionContent, SessionCounts, SessionId, SignerId, UpstreamName,
};

use crate::event::PeerId;
use crate::overuse::Overuse;
use crate::report::Report;

/// Something for the runtime to do. The runtime starts actions in their order. Actions with a
/// completion event may run at the same time.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "actions are moved once or twice, and a box for each job would cost more"
)]
pub enum Action {
    /// Write these items to a peer's connection, then report [`crate::Event::TurnDone`]. A peer has
    /// one turn at a time. What comes next for a slow peer waits in the machine, as a set of
    /// CoValues.
    ///
    /// A turn without [`Progress`](crate::Progress) may be reported later, until
    /// [`Self::AwaitTurn`], and after other events: most often nothing waits for it, and a runtime
    /// saves waking the task of the machine.
    Turn {
        /// The peer.
        peer: PeerId,
        /// The items, in their order.
        items: Vec<Item>,
    },
    /// There is something for a peer's next turn: report the end of its turn as soon as it is
    /// written. The turn may be finished already.
    AwaitTurn(PeerId),
    /// Look a CoValue up in storage, then report [`crate::Event::Loaded`].
    /// [`crate::Machine::asker`] tells for which peer.
    Load(CoValueId),
    /// Check signatures, then report [`crate::Event::Verified`].
    Verify(VerifyJob),
    /// Make content durable, then report [`crate::Event::Stored`]. Turns may need the content from
    /// this action on. The stores of one CoValue are done in their order.
    Store(StoreJob),
    /// Store a durable note whether an upstream has acknowledged all of a CoValue. It is stored
    /// before or together with the stores that follow, so that no CoValue is stored without its
    /// note. Notes may be repeated; the last one for a CoValue and an upstream counts.
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
        /// The most to find.
        limit: usize,
    },
    /// Find the next CoValues in storage, then report [`crate::Event::Listed`].
    ListStored {
        /// The upstream to compare them with.
        upstream: UpstreamName,
        /// The last CoValue of the page before.
        after: Option<CoValueId>,
        /// The most to find.
        limit: usize,
    },
    /// The machine has finished with this much of a peer's content: the peer may send as much
    /// again.
    Release {
        /// The peer.
        peer: PeerId,
        /// The credit, see [`content_credit`](crate::cost::content_credit).
        bytes: u64,
    },
    /// End the connection to a client, which keeps too much memory. The machine takes nothing more
    /// from it until [`crate::Event::Disconnected`].
    Close {
        /// The client.
        peer: PeerId,
        /// The reason.
        reason: Overuse,
    },
    /// Report refused content to the operator.
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

/// Content to send to a peer. The runtime sends as many pieces as its budget for one turn allows,
/// and reports how far it got if it did not reach `until`.
#[derive(Debug)]
pub struct ContentItem {
    /// The CoValue.
    pub id: CoValueId,
    /// The header: sent with the first piece if `with_header`, and the source of the priority.
    pub header: Header,
    /// Whether the peer lacks the header.
    pub with_header: bool,
    /// The counts that the peer has.
    pub have: SessionCounts,
    /// The counts to reach, for the sessions that the peer lacks content of.
    pub until: SessionCounts,
    /// Counts beyond `until` that are expected from an upstream meanwhile. The content announced to
    /// the peer (`expectContentUntil`) is both together.
    pub announced: SessionCounts,
    /// Whether these pieces continue a sequence that was announced to the peer before.
    pub continuation: bool,
    /// Repeated in [`crate::Progress`]. It tells the machine whether the peer has replaced its
    /// counts since.
    pub epoch: u32,
}

/// Consecutive runs of one session's transactions to verify.
#[derive(Debug)]
pub struct VerifyJob {
    /// The CoValue.
    pub id: CoValueId,
    /// The session.
    pub session: SessionId,
    /// The number of transactions before the first run.
    pub after: u64,
    /// The session's hash chain up to there. If it is absent and `after` is not 0, the verifier
    /// computes it from the log.
    pub chain: Option<HashChain>,
    /// The signer that the signatures have to be from.
    pub signer: SignerId,
    /// The runs, each ending at a signature.
    pub runs: Vec<SessionContent>,
    /// Runs, as the peer sent them, that begin before `after`, and so repeat stored transactions at
    /// least in part. If their transactions differ from the stored ones, the author has forked its
    /// session (signed two histories), or they are forged. Then the whole job is refused.
    pub repeated: Vec<SessionContent>,
    /// Present if the runs delete the CoValue. Then the verifier also checks whether their author
    /// was an admin of the owning group at the time.
    pub claim: Option<Claim>,
    /// The peer that sent the runs. It may have disconnected since.
    pub author: PeerId,
    /// Whether the author has forked the session before. Then an invalid signature is no forgery:
    /// the author's log is another one.
    pub is_forked: bool,
}

/// Verified content to make durable.
#[derive(Debug)]
pub struct StoreJob {
    /// The CoValue.
    pub id: CoValueId,
    /// The header, if the CoValue is new.
    pub header: Option<Header>,
    /// Runs of transactions. Each follows the stored ones or the run before it.
    pub sessions: Vec<SessionContent>,
    /// Whether this deletes the CoValue: only header and delete sessions are kept.
    pub delete: bool,
    /// The peer that sent the runs, or the header if there are no runs. It may have disconnected
    /// since.
    pub author: Option<PeerId>,
}
