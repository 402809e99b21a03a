//! Event `Verified`: valid runs become part of the CoValue, and what waited behind them goes on.

use downbeat_protocol::{CoValueId, SessionContent, SessionCounts, SessionId};

use crate::credit::Credit;
use crate::event::{PeerId, Verified};
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::rejection::Rejection;
use crate::report::Report;
use crate::state::index::Index;
use crate::state::pipeline::{NextRuns, next_runs};

impl Machine {
    pub(in crate::machine) fn verified(&mut self, result: Verified) {
        let Verified { id, session, accepted, chain, rejection } = result;
        let Some(index) = self.index_mut(id) else { return };
        // What was with the verifier when the CoValue was deleted counts as taken, and is dropped.
        let is_late = index.is_deleted() && !session.is_delete();
        let Some(pipeline) = index.pipeline_mut(&session) else { return };
        let author = pipeline.author();
        let pipeline_end = pipeline.end();
        let (credit, deletion) = pipeline.finish();
        let deletes = deletion.is_some();
        // The log of a deleted CoValue can no longer be compared with repeated content.
        let rejection = rejection.filter(|_| !is_late);
        let end = accepted.last().map(SessionContent::end);
        let taken = end.filter(|_| !is_late);
        if let Some(end) = taken {
            index.advance(&session, end);
        }
        let has = if rejection.is_none() { Some(pipeline_end) } else { end };
        if let Some(end) = has {
            self.peer_has(author, id, &session, end);
        }
        if let Some(chain) = chain.filter(|_| !is_late) {
            self.keep_chain(id, &session, chain);
        }
        match taken {
            Some(_) => self.take_verified(id, accepted, deletes, credit),
            None => self.release(credit),
        }
        let rejection = self.end_judging(author, id, deletion, rejection);
        if let Some(rejection) = rejection
            && !self.is_verified_in_vain(id, &rejection)
        {
            self.reject(author, id, &session, rejection);
        }
        self.continue_pipeline(id, &session);
        self.after_verification(id, author);
    }

    /// Whether content was refused because storage has changed. Then no peer is at fault: the
    /// CoValue is looked up again, and the author is corrected.
    fn is_verified_in_vain(&mut self, id: CoValueId, rejection: &Rejection) -> bool {
        let Some(index) = self.index_mut(id) else { return false };
        // A store in progress may just have turned out to be too late.
        if *rejection == Rejection::Unreadable && index.is_storing_any() {
            index.mark_outdated();
        }
        index.is_outdated()
    }

    /// Content was refused: that of its author is marked and reported, and what the author has
    /// sent behind it is dropped.
    pub(in crate::machine) fn reject(
        &mut self,
        author: PeerId,
        id: CoValueId,
        session: &SessionId,
        mut rejection: Rejection,
    ) {
        if let Some(at) = self.forked_at(author, id, session, &rejection) {
            rejection = Rejection::Forked { at };
            // The author's only fault is that it has lost what it is sent now.
            self.send_again(author, id, session, at);
        } else if rejection == Rejection::Unreadable {
            // The author is not at fault.
            self.refuse_session(author, id, session.clone());
        } else {
            self.mark_errored(author, id);
        }
        self.report(Report::new(author, id, rejection).session(session));
        let index = self.index_mut(id);
        if let Some(pipeline) = index.and_then(|index| index.pipeline_mut(session)) {
            let credit = pipeline.drop_waiting_of(author);
            self.release(credit);
        }
        if self.has_bug(InjectedBug::ForgetOthers)
            && let Some(index) = self.index_mut(id)
        {
            index.take_awaiting_ack();
        }
    }

    /// Runs of a session are part of the CoValue from now on.
    fn take_verified(
        &mut self,
        id: CoValueId,
        runs: Vec<SessionContent>,
        deletes: bool,
        credit: Credit,
    ) {
        let author = credit.peer();
        let Some(entry) = self.values.get_mut(&id) else { return };
        entry.add_dependencies_of(id, &runs);
        let Some(index) = entry.index_mut() else { return };
        if deletes {
            self.warm_chains -= index.delete();
        }
        if let Some(subscription) = self.subscription_mut(author, id)
            && let Some(run) = runs.first()
        {
            subscription.end_fork(&run.session);
        }
        self.note_unsynced(id);
        self.store(id, runs, deletes, vec![credit], author);
        self.forward(id);
    }

    /// Where a peer has forked a session, if that is why content is refused.
    fn forked_at(
        &self,
        peer: PeerId,
        id: CoValueId,
        session: &SessionId,
        rejection: &Rejection,
    ) -> Option<u64> {
        match rejection {
            Rejection::Forked { at } => Some(*at),
            Rejection::BadSignature { .. } => self.forked(peer, id, session),
            _ => None,
        }
    }

    /// A peer has less of a session than expected, because it has forked it.
    fn send_again(&mut self, peer: PeerId, id: CoValueId, session: &SessionId, from: u64) {
        let subscription = self.subscription_mut(peer, id);
        if subscription.is_some_and(|subscription| subscription.mark_forked(session, from)) {
            self.enqueue(peer, id);
        }
    }

    /// Goes on with the runs that waited for a session's verification.
    fn continue_pipeline(&mut self, id: CoValueId, session: &SessionId) {
        let drops = self.has_bug(InjectedBug::DropWaiting);
        // Taken out, so that the runs that wait are not put behind themselves.
        let pipeline = self.index_mut(id).and_then(|index| index.remove_pipeline(session));
        let Some(pipeline) = pipeline else { return };
        let signer = pipeline.signer();
        let mut waiting = pipeline.into_waiting();
        if drops {
            waiting.clear();
        }
        while let Some(NextRuns { runs, credit }) = next_runs(&mut waiting) {
            let peer = credit.peer();
            let dropped = runs.last().map(|run| (run.session.clone(), run.end()));
            if !self.accept_runs(id, runs, credit, Some(signer)) {
                self.correct(peer, id, &dropped.into_iter().collect());
            }
            let Some(index) = self.index_mut(id) else { return };
            if let Some(pipeline) = index.pipeline_mut(session) {
                return pipeline.set_waiting(waiting);
            }
        }
    }

    /// Runs when something of a peer may have been the last to be verified: a new CoValue's header
    /// is stored if no content took it along, and content that need not wait is acknowledged.
    pub(in crate::machine) fn after_verification(&mut self, id: CoValueId, peer: PeerId) {
        let Some(index) = self.index(id) else { return };
        if index.is_header_unstored() && !index.is_verifying_any() {
            self.note_unsynced(id);
            self.store(id, Vec::new(), false, Vec::new(), peer);
        }
        if self.index_mut(id).is_some_and(Index::end_fresh) {
            self.decided(id);
            self.forward(id);
        }
        self.acknowledge(id, &[], &SessionCounts::new());
        self.enqueue_claimants(id);
        self.take_parked(id);
        self.look_up_again(id);
    }
}
