//! What the machine knows of a CoValue: indexes and what is going on, no content.

use std::collections::{BTreeSet, VecDeque};

use downbeat_core::{dependencies, known_state};
use downbeat_crypto::HashChain;
use downbeat_protocol::{
    CoValueId, Content, Header, KnownState, Priority, SessionContent, SessionCounts, SessionId,
    SignerId,
};
use rustc_hash::FxHashMap;

use crate::dependencies::Dependencies;
use crate::event::{Millis, PeerId, UpstreamName};
use crate::holding::HeldQueue;

/// A CoValue that the machine has in memory. One that it has not may still be in storage.
#[derive(Debug)]
pub(crate) struct Entry {
    pub presence: Presence,
    /// Peers that wait to learn whether the CoValue is there, each with the CoValue that it is
    /// to be served then: this one (at most once for each peer), or one that depends on it.
    pub waiting: Vec<(PeerId, CoValueId)>,
    /// Content that came, or need not wait for anything else any longer, while storage was asked,
    /// with the time until which it may wait, as for [`crate::Machine::take_content`].
    pub inbox: Vec<(PeerId, Content, Option<Millis>)>,
    /// Content that waits for dependencies, by the peer that sent it.
    pub held: Vec<HeldQueue>,
    /// Held content that waits for this CoValue: of which CoValue, and from which peer.
    pub dependants: BTreeSet<(CoValueId, PeerId)>,
    /// The CoValues that this one depends on, by what has been verified of it.
    pub dependencies: Dependencies,
    /// Peers that have answered the LOAD of a comparison, and whose content is not durable yet.
    pub comparing: Vec<PeerId>,
    /// Messages of this CoValue that wait until a group is stored (`Index::parked`).
    pub parked: u32,
    /// How many walks through dependencies need the entry to stay.
    pub pins: u32,
    /// When the entry was last used, as a stamp of the machine (`Machine::uses`).
    pub used: u64,
}

/// Whether a CoValue is there.
#[derive(Debug)]
pub(crate) enum Presence {
    /// Storage is being asked.
    Loading,
    /// Storage could not answer, and is asked again at this time.
    Unknown(Millis),
    /// Storage does not have it, and upstreams have not answered yet.
    Asking(Asked),
    /// Neither storage nor any upstream has it.
    Absent,
    /// It is there.
    Here(Box<Index>),
}

/// Upstreams that are asked for a CoValue.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Those that have not answered.
    pub pending: Vec<UpstreamName>,
    /// When they count as not having it.
    pub until: Millis,
}

/// A CoValue that is there.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, not states of one thing")]
pub(crate) struct Index {
    pub header: Header,
    /// Transactions per session that have been verified.
    verified: SessionCounts,
    /// The durable counts of the sessions for which that is less than what is verified.
    behind: FxHashMap<SessionId, u64>,
    /// Whether the first content is still being verified. Until then nobody is served, so that
    /// nobody sees the CoValue empty.
    pub fresh: bool,
    /// Whether the header still has to be stored, with the next store.
    pub header_unstored: bool,
    /// Whether the header is durable: before the first store is done it is not.
    pub header_durable: bool,
    /// Sessions with content that is not verified yet.
    pub pipelines: FxHashMap<SessionId, Pipeline>,
    /// Hash chains up to the verified counts, of sessions that were written lately, each with
    /// the stamp of its use.
    pub chains: FxHashMap<SessionId, (HashChain, u64)>,
    /// Stores that are under way, oldest first, with what each releases when it is done.
    pub stores: VecDeque<Vec<(PeerId, u64)>>,
    /// Peers that are owed an acknowledgement when this is durable, which they have sent.
    pub awaiting_ack: Vec<(PeerId, SessionCounts)>,
    /// Clients whose LOAD claims content that is being verified or stored, and is answered then.
    pub claimants: Vec<PeerId>,
    /// Counts that upstreams have announced and not sent yet, by upstream.
    pub announced: Vec<(PeerId, SessionCounts)>,
    /// Deletions of CoValues of this group that wait until all of it is stored.
    pub parked: Vec<Parked>,
    /// Whether the CoValue has been deleted.
    pub deleted: bool,
    /// Whether another writer has changed what is stored: what is known here is out of date, and
    /// is looked up again as soon as nothing is under way.
    pub outdated: bool,
}

/// The content of one session that is being verified or waits for that.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// Who sent what is with the verifier.
    pub author: PeerId,
    /// What is released to the author when what the verifier has is stored.
    pub credit: u64,
    /// Whose signature the session carries. Kept, because the account that tells may be forgotten
    /// while content waits.
    pub signer: SignerId,
    /// What the verifier has, if that deletes the CoValue.
    pub deletion: Option<Box<Deletion>>,
    /// The count up to which the author has the session, if what the verifier has is in order.
    pub end: u64,
    /// What came meanwhile, in the order in which it came.
    pub waiting: VecDeque<Waiting>,
}

/// A deletion that is being judged by what is stored of the groups that decide over it.
#[derive(Debug)]
pub(crate) struct Deletion {
    /// The one transaction.
    pub run: SessionContent,
    /// The groups, which stay in memory meanwhile, each with the number of transactions that are
    /// stored of it, if it was in memory before.
    pub groups: Vec<(CoValueId, Option<u64>)>,
}

/// Content that deletes, and waits until the group that decides over it is stored.
#[derive(Debug)]
pub(crate) struct Parked {
    pub peer: PeerId,
    pub content: Content,
    /// How long it may wait for dependencies, where it has waited for some already.
    pub waited: Option<Millis>,
}

/// A run that waits for those before it to be verified.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub peer: PeerId,
    pub run: SessionContent,
    /// What is to be released to the peer for it.
    pub credit: u64,
}

impl Entry {
    pub(crate) fn new(presence: Presence) -> Self {
        Self {
            presence,
            waiting: Vec::new(),
            inbox: Vec::new(),
            held: Vec::new(),
            dependants: BTreeSet::new(),
            dependencies: Dependencies::default(),
            comparing: Vec::new(),
            parked: 0,
            pins: 0,
            used: 0,
        }
    }

    pub(crate) fn index(&self) -> Option<&Index> {
        match &self.presence {
            Presence::Here(index) => Some(index),
            _ => None,
        }
    }

    pub(crate) fn index_mut(&mut self) -> Option<&mut Index> {
        match &mut self.presence {
            Presence::Here(index) => Some(index),
            _ => None,
        }
    }

    pub(crate) fn priority(&self) -> Priority {
        self.index().map_or(Priority::Medium, |index| index.header.priority())
    }

    /// Whether it is not known yet if the CoValue is there, or what there is of it to be served.
    pub(crate) fn is_undecided(&self) -> bool {
        match &self.presence {
            Presence::Loading | Presence::Unknown(_) | Presence::Asking(_) => true,
            Presence::Absent => false,
            Presence::Here(index) => index.fresh,
        }
    }

    /// Whether nothing is going on, so that the entry can be forgotten.
    pub(crate) fn is_quiet(&self) -> bool {
        let settled = match &self.presence {
            Presence::Loading | Presence::Unknown(_) | Presence::Asking(_) => false,
            Presence::Absent => true,
            Presence::Here(index) => index.is_settled() && index.awaiting_ack.is_empty(),
        };
        settled
            && self.waiting.is_empty()
            && self.inbox.is_empty()
            && self.held.is_empty()
            && self.dependants.is_empty()
            && self.pins == 0
    }

    /// Adds the dependencies that verified runs bring.
    pub(crate) fn add_dependencies_of(&mut self, id: CoValueId, runs: &[SessionContent]) {
        let Some(index) = self.index() else { return };
        let mut found = dependencies::of_sessions(runs.iter().map(|run| &run.session));
        if index.header.is_group() {
            let transactions = runs.iter().flat_map(|run| &run.transactions);
            found.extend(dependencies::of_group_transactions(transactions));
        }
        self.dependencies.extend(found.into_iter().filter(|dependency| *dependency != id));
    }
}

impl Pipeline {
    fn is_for(&self, peer: PeerId) -> bool {
        self.author == peer || self.waiting.iter().any(|waiting| waiting.peer == peer)
    }
}

impl Index {
    pub(crate) fn new(header: Header, sessions: SessionCounts) -> Self {
        Self {
            header,
            verified: sessions,
            behind: FxHashMap::default(),
            fresh: false,
            header_unstored: false,
            header_durable: true,
            pipelines: FxHashMap::default(),
            chains: FxHashMap::default(),
            stores: VecDeque::new(),
            awaiting_ack: Vec::new(),
            claimants: Vec::new(),
            announced: Vec::new(),
            parked: Vec::new(),
            deleted: false,
            outdated: false,
        }
    }

    /// What subscribers can be sent.
    pub(crate) fn verified(&self) -> &SessionCounts {
        &self.verified
    }

    /// What may be acknowledged.
    pub(crate) fn durable(&self, id: CoValueId) -> KnownState {
        let mut sessions = self.verified.clone();
        for (session, count) in &self.behind {
            sessions.set(session, *count);
        }
        KnownState { id, header: true, sessions }
    }

    /// The number of transactions that are durable.
    pub(crate) fn durable_transactions(&self) -> u64 {
        let counts = self.verified.iter();
        counts.map(|(session, count)| self.behind.get(session).unwrap_or(count)).sum()
    }

    /// A peer is owed an acknowledgement when this is durable.
    pub(crate) fn await_ack(&mut self, peer: PeerId, sent: &SessionCounts) {
        match self.awaiting_ack.iter_mut().find(|(other, _)| *other == peer) {
            Some((_, counts)) => known_state::merge_counts(counts, sent),
            None => self.awaiting_ack.push((peer, sent.clone())),
        }
    }

    /// Whether some of these transactions are verified, and not durable.
    pub(crate) fn is_storing(&self, sessions: &SessionCounts) -> bool {
        self.behind.iter().any(|(session, durable)| sessions.get(session) > *durable)
    }

    /// Whether these transactions are durable, or were refused and never will be.
    pub(crate) fn is_settled_up_to(&self, sessions: &SessionCounts) -> bool {
        sessions.iter().all(|(session, count)| match self.behind.get(session) {
            Some(durable) => durable >= count,
            None => self.verified.get(session) >= *count || !self.pipelines.contains_key(session),
        })
    }

    /// Whether something that a peer has sent of these sessions is being looked at.
    pub(crate) fn is_verifying_for(&self, peer: PeerId, sessions: &SessionCounts) -> bool {
        let mut pipelines = sessions.iter().filter_map(|(session, _)| self.pipelines.get(session));
        pipelines.any(|pipeline| pipeline.is_for(peer))
    }

    /// Whether anything that a peer has sent is being looked at.
    pub(crate) fn is_verifying(&self, peer: PeerId) -> bool {
        self.pipelines.values().any(|pipeline| pipeline.is_for(peer))
    }

    /// More of a session has been verified.
    pub(crate) fn advance(&mut self, session: &SessionId, count: u64) {
        let before = self.verified.get(session);
        self.behind.entry(session.clone()).or_insert(before);
        self.verified.raise(session, count);
        let verified = &self.verified;
        self.announced.retain(|(_, counts)| !known_state::is_subset(counts, verified));
    }

    /// An upstream says what it will have sent in the end.
    pub(crate) fn announce(&mut self, peer: PeerId, counts: &SessionCounts) {
        if known_state::is_subset(counts, &self.verified) {
            return;
        }
        match self.announced.iter_mut().find(|(other, _)| *other == peer) {
            Some((_, announced)) => known_state::merge_counts(announced, counts),
            None => self.announced.push((peer, counts.clone())),
        }
    }

    /// An upstream will not send what it has announced.
    pub(crate) fn expect_nothing_from(&mut self, peer: PeerId) {
        self.announced.retain(|(other, _)| *other != peer);
    }

    /// More has become durable.
    pub(crate) fn settle(&mut self, durable: &SessionCounts) {
        let verified = &self.verified;
        self.behind.retain(|session, count| {
            *count = durable.get(session).max(*count);
            *count < verified.get(session)
        });
    }

    /// The CoValue is deleted: of its sessions only those that delete it are left.
    pub(crate) fn delete(&mut self) {
        self.deleted = true;
        self.verified =
            self.verified.iter().filter(|(session, _)| session.is_delete()).cloned().collect();
        self.behind.retain(|session, _| session.is_delete());
        self.chains.clear();
        self.announced.clear();
    }

    /// Whether someone that has `sessions` lacks anything of this CoValue.
    pub(crate) fn is_ahead_of(&self, sessions: &SessionCounts) -> bool {
        !known_state::is_subset(&self.verified, sessions)
    }

    /// What of this CoValue someone lacks that has `sessions`.
    pub(crate) fn missing(&self, sessions: &SessionCounts) -> SessionCounts {
        known_state::missing(&self.verified, sessions)
    }

    /// What upstreams have announced beyond what we have.
    pub(crate) fn still_expected(&self) -> SessionCounts {
        let mut expected = SessionCounts::new();
        for (_, announced) in &self.announced {
            known_state::merge_counts(&mut expected, announced);
        }
        known_state::missing(&expected, &self.verified)
    }

    /// Whether the CoValue may be so large that it is sent in several pieces. A guess, for sizes
    /// are not in the index: binary streams, and what has many transactions.
    pub(crate) fn may_be_large(&self) -> bool {
        /// Below this a CoValue reaches a piece's 100 KiB only with transactions of 1.6 KiB on
        /// average, where most have some 150 bytes.
        const MANY_TRANSACTIONS: u64 = 64;
        self.header.priority() == Priority::Low
            || self.verified.iter().map(|(_, count)| count).sum::<u64>() >= MANY_TRANSACTIONS
    }

    /// Whether anything may be said of it: not before its header is durable, and not before its
    /// deletion is, with which everything that was sent of other sessions counts as taken.
    pub(crate) fn may_be_told(&self) -> bool {
        let is_deletion_stored = !self.behind.keys().any(SessionId::is_delete);
        self.header_durable && (!self.deleted || is_deletion_stored)
    }

    /// Whether nothing is being verified or stored.
    pub(crate) fn is_settled(&self) -> bool {
        self.pipelines.is_empty() && self.stores.is_empty()
    }
}
