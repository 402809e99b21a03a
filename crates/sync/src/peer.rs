//! What the machine knows of a peer: what the peer has, and what it is still owed.

use std::collections::{BTreeSet, VecDeque};

use downbeat_core::known_state;
use downbeat_protocol::{
    CoValueId, KnownState, Priority, Reconcile, SessionCounts, SessionId, ShortHash,
};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::event::{Millis, UpstreamName};

/// A connected peer.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// The CoValues that the peer has loaded, sent, or been sent.
    pub subscriptions: FxHashMap<CoValueId, Subscription>,
    /// The CoValues of which something is owed, by urgency. A CoValue stands here at most once
    /// (`Subscription::queued`), so the queue is bounded by the subscriptions.
    owed: [VecDeque<CoValueId>; 3],
    /// Whether a turn is with the runtime.
    pub busy: bool,
    /// Whether the peer is on the machine's list of peers to draw a turn for.
    pub ready: bool,
    /// Bytes of its content that wait for dependencies.
    pub held_bytes: u64,
    /// The CoValues of that content.
    pub holds: BTreeSet<CoValueId>,
    /// The upstream's name, if the peer is one.
    pub upstream: Option<UpstreamName>,
    /// LOADs to an upstream that it has not answered, with the time at which they are given up.
    pub loads: FxHashMap<CoValueId, Millis>,
    /// LOADs to an upstream that wait until fewer are under way.
    pub loads_waiting: VecDeque<CoValueId>,
    /// Whether pages of CoValues that the upstream has not acknowledged are still to come, and
    /// where the last one ended.
    pub unsynced_pages: Pages,
    /// The same for the comparison of everything in storage.
    pub stored_pages: Pages,
    /// The reconcile batch that the upstream has not acknowledged.
    pub reconciling: Option<Reconcile>,
    /// Reconcile batches of the peer that are not acknowledged yet.
    pub batches: Vec<Batch>,
}

/// A walk through something that is stored, page by page.
#[derive(Debug, Clone, Default)]
pub(crate) enum Pages {
    /// Not begun, or at the end.
    #[default]
    Done,
    /// A page has been asked for.
    Asked,
    /// The next page starts after this.
    Next(CoValueId),
}

/// A reconcile message under way.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Named by the peer.
    pub id: String,
    /// CoValues that have not been compared yet, or whose content has not come yet.
    pub open: FxHashSet<CoValueId>,
}

/// A peer's part in one CoValue.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, not states of one thing")]
pub(crate) struct Subscription {
    /// What the peer has said that it has.
    known: Counts,
    /// The same, with what has been sent but not acknowledged; `None` while that is nothing.
    sent: Option<Counts>,
    /// Counts how often `known` was replaced, so that reports on turns from before are not taken
    /// for reports on turns from after.
    pub epoch: u32,
    /// Whether the peer is to be sent content: since it loaded, acknowledged or sent some.
    pub subscribed: bool,
    /// What the peer is owed besides content.
    pub owes: Owes,
    /// Whether the peer has been sent a LOAD, or is about to be. A client that has answered can be
    /// asked again.
    pub asked: bool,
    /// The minute in which the last LOAD was owed, of those that fit: after 45 days they begin
    /// anew.
    asked_in: Option<u16>,
    /// Whether the CoValue stands in the peer's queue.
    pub queued: bool,
    /// Whether `known` is what the peer has claimed in a LOAD, or had before it was away, and not
    /// said in a KNOWN since.
    pub claimed: bool,
    /// Whether the peer has ever been told what we have.
    pub told: bool,
    /// A session that the peer has forked, and after how many transactions: what it writes there
    /// from then on cannot be verified, and is no forgery.
    pub forked: Option<(SessionId, u64)>,
    /// Whether the peer's content of this CoValue is ignored, after bad content.
    pub errored: bool,
    /// Whether a sequence of pieces is under way whose end has been announced.
    pub streaming: bool,
    /// The number of the CoValue's dependencies when they were last sent ahead of it.
    pub dependencies_sent: Option<usize>,
    /// Whether the peer waits to learn whether the CoValue is there (`Entry::waiting`).
    pub waits: bool,
}

/// The messages that a peer is owed of one CoValue. Each is made when it is drawn, from the state
/// of that moment, so that several of one kind become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "a set of messages, any of which may be owed")]
pub(crate) struct Owes {
    /// An answer to a LOAD, if no content is the answer.
    pub reply: bool,
    /// What we have, if the peer lacks nothing of it and was never told.
    pub first: bool,
    /// Word that nobody has the CoValue.
    pub not_found: bool,
    /// An acknowledgement.
    pub known: bool,
    /// A correction.
    pub correction: bool,
    /// A LOAD, to get a dependency from the peer that needs it.
    pub load: bool,
    /// A comparison with the hash that the peer has sent in a reconcile message.
    pub comparison: Option<ShortHash>,
}

/// A known state without the id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub header: bool,
    pub sessions: SessionCounts,
}

impl Peer {
    /// Puts a CoValue into the queue, unless it is there already.
    pub(crate) fn owe(&mut self, id: CoValueId, priority: Priority) {
        let subscription = self.subscriptions.entry(id).or_default();
        if !subscription.queued {
            subscription.queued = true;
            self.owed[lane(priority)].push_back(id);
        }
    }

    /// Takes the most urgent CoValue out of the queue.
    pub(crate) fn next_owed(&mut self) -> Option<CoValueId> {
        let id = self.owed.iter_mut().find_map(VecDeque::pop_front)?;
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.queued = false;
        }
        Some(id)
    }

    pub(crate) fn owes_nothing(&self) -> bool {
        self.owed.iter().all(VecDeque::is_empty)
            && !self.batches.iter().any(|batch| batch.open.is_empty())
            && self.reconciling.as_ref().is_none_or(|batch| batch.values.is_empty())
    }

    /// Takes the name of a batch that can be acknowledged.
    pub(crate) fn next_reconciled(&mut self) -> Option<String> {
        let done = self.batches.iter().position(|batch| batch.open.is_empty())?;
        Some(self.batches.remove(done).id)
    }

    /// A CoValue is as the peer has it now.
    pub(crate) fn reconciled(&mut self, id: CoValueId) {
        for batch in &mut self.batches {
            batch.open.remove(&id);
        }
    }
}

/// How many minutes an upstream that has been asked for a CoValue is not asked again. Longer than a
/// LOAD takes to go round any ring of nodes, so that one that comes round ends there; and not for
/// ever, for an upstream may have gained something in a way that it does not tell of.
const ASKED_LATELY: u16 = 5;

/// The number of a minute, as far as it fits.
fn minute(now: Millis) -> u16 {
    const MILLIS: Millis = 60_000;
    const COUNT: Millis = 1 << u16::BITS;
    u16::try_from(now / MILLIS % COUNT).unwrap_or(u16::MAX)
}

fn lane(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Medium => 1,
        Priority::Low => 2,
    }
}

impl Subscription {
    /// What the peer will have once everything sent has arrived.
    pub(crate) fn expected(&self) -> &Counts {
        self.sent.as_ref().unwrap_or(&self.known)
    }

    /// What the peer has said that it has.
    pub(crate) fn known(&self) -> &Counts {
        &self.known
    }

    /// The peer is to be sent a LOAD.
    pub(crate) fn ask(&mut self, now: Millis) {
        self.owes.load = true;
        self.asked = true;
        self.asked_in = Some(minute(now));
    }

    /// Whether the peer has been asked so lately that it need not be asked again: it is subscribed
    /// to, and sends what is new.
    pub(crate) fn is_asked_lately(&self, now: Millis) -> bool {
        let is_late = |asked| minute(now).wrapping_sub(asked) < ASKED_LATELY;
        self.asked && self.asked_in.is_some_and(is_late)
    }

    /// What the peer has been asked for has come, and was lost.
    pub(crate) fn ask_again(&mut self) {
        (self.asked, self.asked_in) = (false, None);
    }

    /// Takes up what was known of a peer before it was away. What it was sent and has not
    /// acknowledged may have been lost.
    pub(crate) fn resume(&mut self, before: &Self) {
        self.known = before.known.clone();
        self.told = false;
        // It may have lost data as well: its first KNOWN tells what it really has.
        self.claimed = true;
    }

    /// The peer says that this, and nothing else, is what it has.
    pub(crate) fn replace(&mut self, state: KnownState) {
        self.known = Counts { header: state.header, sessions: state.sessions };
        self.sent = None;
        self.streaming = false;
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// The peer says in a KNOWN that it has this.
    ///
    /// That adds to what it has said before, but for one case: a client whose download was cut
    /// claims in its next LOAD the counts that it was promised (`expectContentUntil`), while its
    /// KNOWN always tells what it really has.
    pub(crate) fn hear(&mut self, header: bool, sessions: &SessionCounts) {
        if std::mem::take(&mut self.claimed)
            && (self.known.header && !header
                || !known_state::is_subset(&self.known.sessions, sessions))
        {
            self.known.sessions.clone_from(sessions);
            self.known.header = header;
            self.sent = None;
            self.streaming = false;
            self.epoch = self.epoch.wrapping_add(1);
        } else {
            self.merge(header, sessions);
        }
    }

    /// The peer has this as well.
    pub(crate) fn merge(&mut self, header: bool, sessions: &SessionCounts) {
        // Mostly it acknowledges all that was sent.
        let is_all = |sent: &mut Counts| header && sent.header && sent.sessions == *sessions;
        if let Some(sent) = self.sent.take_if(is_all) {
            self.known = sent;
            return;
        }
        for counts in std::iter::once(&mut self.known).chain(&mut self.sent) {
            counts.header |= header;
            known_state::merge_counts(&mut counts.sessions, sessions);
        }
        if let Some(sent) = self.sent.take_if(|sent| *sent == self.known) {
            self.known = sent;
        }
    }

    /// Keeps no counts of its own where they are the same as ours.
    pub(crate) fn share(&mut self, ours: &SessionCounts) {
        if self.known.sessions == *ours {
            self.known.sessions.clone_from(ours);
        }
    }

    /// The peer has only this much of a session.
    pub(crate) fn lower(&mut self, session: &SessionId, count: u64) {
        for counts in std::iter::once(&mut self.known).chain(&mut self.sent) {
            counts.sessions.set(session, count.min(counts.sessions.get(session)));
        }
    }

    /// This, of all that we have, is on its way to the peer.
    pub(crate) fn mark_sent(&mut self, sessions: &SessionCounts, ours: &SessionCounts) {
        let sent = self.sent.get_or_insert_with(|| self.known.clone());
        sent.header = true;
        if known_state::is_subset(&sent.sessions, ours) {
            sent.sessions.clone_from(ours);
        } else {
            known_state::merge_counts(&mut sent.sessions, sessions);
        }
    }

    /// Of what was on its way, only this much has been sent.
    pub(crate) fn mark_reached(&mut self, header: bool, reached: &[(SessionId, u64)]) {
        let sent = self.sent.get_or_insert_with(|| self.known.clone());
        sent.header = self.known.header || header;
        for (session, count) in reached {
            let count = (*count).max(self.known.sessions.get(session));
            sent.sessions.set(session, count);
        }
    }
}
