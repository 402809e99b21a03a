//! A CoValue that is here: its header and counts, and the content that is being verified or
//! stored. It has no content that is durable.

use std::collections::VecDeque;
use std::mem;

use downbeat_core::known_state;
use downbeat_crypto::sessions_hash;
use downbeat_protocol::{
    CoValueId, Header, KnownState, Priority, SessionCounts, SessionId, ShortHash,
};
use rustc_hash::FxHashMap;

use crate::credit::Credit;
use crate::event::PeerId;
use crate::state::acknowledgements::Acknowledgements;
use crate::state::announcements::Announcements;
use crate::state::chains::Chains;
use crate::state::counts::Counts;
use crate::state::pending::PendingContent;
use crate::state::pipeline::Pipeline;

/// A CoValue that is here.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, not states of one thing")]
pub(crate) struct Index {
    header: Header,
    header_status: HeaderStatus,
    counts: Counts,
    /// Whether the first content is still being verified. Until then no peer is served, so that
    /// none sees the CoValue empty.
    fresh: bool,
    /// Whether the CoValue has been deleted.
    deleted: bool,
    /// Whether another writer has changed what is stored: what is known here is out of date, and
    /// is looked up again as soon as nothing is in progress.
    outdated: bool,
    /// Sessions with content that is not verified yet.
    pipelines: FxHashMap<SessionId, Pipeline>,
    pub chains: Chains,
    /// Stores in progress, oldest first, with the credit that each releases when it is done.
    stores: VecDeque<Vec<Credit>>,
    acknowledgements: Acknowledgements,
    /// Clients whose LOAD claims content that is being verified or stored, and is answered then.
    claimants: Vec<PeerId>,
    announcements: Announcements,
    /// The last computed hash of the durable counts, with these counts, if they are many.
    hashed: Option<Box<(SessionCounts, ShortHash)>>,
    /// Deletions of CoValues of this group that wait until all of it is stored.
    parked: Vec<PendingContent>,
}

/// How far the header is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeaderStatus {
    /// It goes with the next store.
    Unstored,
    /// It went with the first store, which is not done.
    Storing,
    Durable,
}

/// A store that is done.
pub(crate) struct FinishedStore {
    /// The credit of its content.
    pub credits: Vec<Credit>,
    /// Whether it was the first one, which stored the header.
    pub is_first: bool,
}

impl Index {
    /// A CoValue that storage has.
    pub(crate) fn stored(header: Header, sessions: SessionCounts, deleted: bool) -> Self {
        let mut index = Self {
            header,
            header_status: HeaderStatus::Durable,
            counts: Counts::stored(sessions),
            fresh: false,
            deleted: false,
            outdated: false,
            pipelines: FxHashMap::default(),
            chains: Chains::default(),
            stores: VecDeque::new(),
            acknowledgements: Acknowledgements::default(),
            claimants: Vec::new(),
            announcements: Announcements::default(),
            hashed: None,
            parked: Vec::new(),
        };
        if deleted {
            index.delete();
        }
        index
    }

    /// A CoValue whose header a peer has sent.
    pub(crate) fn created(header: Header) -> Self {
        let stored = Self::stored(header, SessionCounts::new(), false);
        Self { header_status: HeaderStatus::Unstored, fresh: true, ..stored }
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn is_header_durable(&self) -> bool {
        self.header_status == HeaderStatus::Durable
    }

    pub(crate) fn is_header_unstored(&self) -> bool {
        self.header_status == HeaderStatus::Unstored
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted
    }

    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated
    }

    pub(crate) fn mark_outdated(&mut self) {
        self.outdated = true;
    }

    /// What subscribers can be sent.
    pub(crate) fn verified(&self) -> &SessionCounts {
        self.counts.verified()
    }

    /// What may be acknowledged.
    pub(crate) fn durable(&self) -> &SessionCounts {
        self.counts.durable()
    }

    /// The same, as a message states it.
    pub(crate) fn durable_state(&self, id: CoValueId) -> KnownState {
        KnownState { id, header: true, sessions: self.durable().clone() }
    }

    /// The hash of the durable counts that reconcile messages have. To hash very many takes far
    /// longer than a peer needs to ask for it.
    pub(crate) fn durable_hash(&mut self) -> ShortHash {
        /// Few counts are hashed again in less time than it takes to keep their hash.
        const MANY_SESSIONS: usize = 32;
        let durable = self.counts.durable();
        if let Some((hashed, hash)) = self.hashed.as_deref()
            && hashed.is_shared_with(durable)
        {
            return *hash;
        }
        let hash = sessions_hash(durable);
        let is_kept = durable.len() > MANY_SESSIONS;
        self.hashed = is_kept.then(|| Box::new((durable.clone(), hash)));
        hash
    }

    pub(crate) fn durable_transactions(&self) -> u64 {
        self.counts.durable_transactions()
    }

    /// Whether some of these transactions are verified, and not durable.
    pub(crate) fn is_storing(&self, sessions: &SessionCounts) -> bool {
        self.counts.is_storing(sessions)
    }

    /// Whether a peer that has `sessions` lacks any transaction of this CoValue.
    pub(crate) fn is_ahead_of(&self, sessions: &SessionCounts) -> bool {
        !known_state::is_subset(self.verified(), sessions)
    }

    /// Whether the CoValue may be so large that it is sent in several pieces. A guess, because the
    /// index has no sizes: binary streams, and CoValues with many transactions.
    pub(crate) fn may_be_large(&self) -> bool {
        /// Below this a CoValue reaches a piece's 100 KiB only with transactions of 1.6 KiB on
        /// average, where most have some 150 bytes.
        const MANY_TRANSACTIONS: u64 = 64;
        self.header.priority() == Priority::Low
            || self.counts.verified_transactions() >= MANY_TRANSACTIONS
    }

    /// Whether a KNOWN about it may be sent: not before its header is durable, and not before its
    /// deletion is, which acknowledges all content of other sessions.
    pub(crate) fn may_send_known(&self) -> bool {
        self.is_header_durable() && (!self.deleted || !self.counts.is_storing_deletion())
    }

    /// Whether nothing is being verified or stored.
    pub(crate) fn is_settled(&self) -> bool {
        self.pipelines.is_empty() && self.stores.is_empty()
    }

    pub(crate) fn is_verifying_any(&self) -> bool {
        !self.pipelines.is_empty()
    }

    pub(crate) fn is_storing_any(&self) -> bool {
        !self.stores.is_empty()
    }

    /// The CoValue is deleted: only the sessions that delete it are left. Returns how many hash
    /// chains that removes.
    pub(crate) fn delete(&mut self) -> usize {
        self.deleted = true;
        self.counts.keep_delete_sessions();
        self.announcements.clear();
        self.acknowledgements.mark_all_changed();
        self.chains.clear()
    }
}

/// Verification.
impl Index {
    pub(crate) fn pipeline_mut(&mut self, session: &SessionId) -> Option<&mut Pipeline> {
        self.pipelines.get_mut(session)
    }

    pub(crate) fn has_pipeline(&self, session: &SessionId) -> bool {
        self.pipelines.contains_key(session)
    }

    pub(crate) fn insert_pipeline(&mut self, session: SessionId, pipeline: Pipeline) {
        self.acknowledgements.mark_changed(&session);
        self.pipelines.insert(session, pipeline);
    }

    pub(crate) fn remove_pipeline(&mut self, session: &SessionId) -> Option<Pipeline> {
        self.acknowledgements.mark_changed(session);
        self.pipelines.remove(session)
    }

    /// Whether any content that a peer has sent is being verified.
    pub(crate) fn is_verifying(&self, peer: PeerId) -> bool {
        self.pipelines.values().any(|pipeline| pipeline.is_for(peer))
    }

    /// More of a session is verified.
    pub(crate) fn advance(&mut self, session: &SessionId, count: u64) {
        self.counts.verify(session, count);
        self.announcements.fulfil(session, self.counts.verified().get(session));
        self.acknowledgements.mark_changed(session);
    }

    /// Ends the time in which the CoValue is not served. Returns whether it ends now: when its
    /// first content is verified.
    pub(crate) fn end_fresh(&mut self) -> bool {
        self.pipelines.is_empty() && mem::take(&mut self.fresh)
    }

    /// An upstream says how much it will have sent in the end.
    pub(crate) fn announce(&mut self, peer: PeerId, counts: &SessionCounts) {
        self.announcements.add(peer, counts, self.counts.verified());
    }

    /// An upstream will not send what it has announced.
    pub(crate) fn expect_nothing_from(&mut self, peer: PeerId) {
        self.announcements.withdraw(peer);
    }

    /// The counts that upstreams have announced beyond what is here.
    pub(crate) fn still_expected(&self) -> SessionCounts {
        self.announcements.all()
    }

    /// Puts a deletion aside until all of this group is stored.
    pub(crate) fn park(&mut self, pending: PendingContent) {
        self.parked.push(pending);
    }

    /// The deletions that waited, if all of this group is stored.
    pub(crate) fn take_parked(&mut self) -> Vec<PendingContent> {
        if self.is_settled() { mem::take(&mut self.parked) } else { Vec::new() }
    }
}

/// Stores and acknowledgements.
impl Index {
    /// A store begins. Returns the header if it has to be stored with it.
    pub(crate) fn begin_store(&mut self, credits: Vec<Credit>) -> Option<Header> {
        self.stores.push_back(credits);
        (self.header_status == HeaderStatus::Unstored).then(|| {
            self.header_status = HeaderStatus::Storing;
            self.header.clone()
        })
    }

    /// The oldest store is done. `None` if none is in progress.
    pub(crate) fn finish_store(
        &mut self,
        durable: &SessionCounts,
        conflict: bool,
    ) -> Option<FinishedStore> {
        let credits = self.stores.pop_front()?;
        self.counts.settle(durable);
        for (session, _) in durable {
            self.acknowledgements.mark_changed(session);
        }
        self.outdated |= conflict;
        let before = mem::replace(&mut self.header_status, HeaderStatus::Durable);
        Some(FinishedStore { credits, is_first: before != HeaderStatus::Durable })
    }

    /// A peer gets an acknowledgement when these counts, which it has sent, are durable.
    pub(crate) fn await_ack(&mut self, peer: PeerId, sent: &SessionCounts) {
        self.acknowledgements.add(peer, sent);
    }

    pub(crate) fn owes_no_acknowledgement(&self) -> bool {
        self.acknowledgements.is_empty()
    }

    /// Takes out the peers whose content is all durable or refused, each with what it has sent,
    /// and adds them to `due`.
    pub(crate) fn take_acknowledged(&mut self, due: &mut Vec<(PeerId, SessionCounts)>) {
        let (counts, pipelines) = (&self.counts, &self.pipelines);
        // Transactions that are durable, or were refused and never will be.
        let is_settled = |peer, session: &SessionId, count| {
            let pipeline = pipelines.get(session);
            let is_stored = if counts.is_behind(session) {
                counts.durable().get(session) >= count
            } else {
                counts.verified().get(session) >= count || pipeline.is_none()
            };
            is_stored && !pipeline.is_some_and(|pipeline| pipeline.is_for(peer))
        };
        self.acknowledgements.take_settled(self.stores.is_empty(), is_settled, due);
    }

    /// Takes out the peers that wait for an acknowledgement, with what they have sent.
    pub(crate) fn take_awaiting_ack(&mut self) -> Vec<(PeerId, SessionCounts)> {
        self.acknowledgements.take()
    }

    /// A client's LOAD waits until the content that it claims is verified and stored.
    pub(crate) fn add_claimant(&mut self, peer: PeerId) {
        if !self.claimants.contains(&peer) {
            self.claimants.push(peer);
        }
    }

    pub(crate) fn take_claimants(&mut self) -> Vec<PeerId> {
        mem::take(&mut self.claimants)
    }
}
