//! Verification: what is handed to the verifiers, and what becomes of it.
//!
//! Each session has one job with the verifiers at a time; what comes meanwhile waits in its
//! pipeline.

use std::collections::VecDeque;

use downbeat_crypto::HashChain;
use downbeat_protocol::{CoValueId, Owner, SessionContent, SessionId, SignerId};

use crate::action::{Action, VerifyJob};
use crate::covalue::{Entry, Pipeline, Waiting};
use crate::event::{PeerId, Verified};
use crate::faults::Fault;
use crate::machine::{MIN_STALE_STAMPS, Machine};
use crate::report::{Rejection, Report};
use crate::subscription::Subscription;

/// Runs to be verified, which follow what is there and each other.
pub(crate) struct Job {
    pub id: CoValueId,
    pub session: SessionId,
    /// The count of the session behind the last run, new or not.
    pub end: u64,
    pub runs: Vec<SessionContent>,
    pub repeated: Vec<SessionContent>,
}

impl Machine {
    /// Has runs verified that follow what is there, and each other.
    pub(crate) fn verify(&mut self, peer: PeerId, job: Job, credit: u64, signer: Option<SignerId>) {
        let Job { id, session, end, runs, repeated } = job;
        let signer = signer.map_or_else(|| self.signer(&session), Ok);
        let prepared = signer.and_then(|signer| {
            let claim = self.claim(id, &runs)?;
            Ok((signer, claim))
        });
        let (signer, claim) = match prepared {
            Ok(prepared) => prepared,
            Err(rejection) => {
                self.report(Report::new(peer, id, rejection).session(&session));
                self.mark_errored(peer, id);
                return self.release(peer, credit);
            }
        };
        let deletion = claim.as_ref().and_then(|_| self.begin_judging(id, &runs));
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        let after = index.verified().get(&session);
        let chain = index.chains.remove(&session).map(|(chain, _)| chain);
        self.warm_chains -= usize::from(chain.is_some());
        index.pipelines.insert(
            session.clone(),
            Pipeline { author: peer, credit, signer, deletion, end, waiting: VecDeque::new() },
        );
        if self.has_fault(Fault::TakeUnverified) {
            let accepted = runs;
            let (chain, rejection) = (None, None);
            return self.verified(Verified { id, session, accepted, chain, rejection });
        }
        let job = VerifyJob { id, session, after, chain, signer, runs, repeated, claim };
        self.actions.push(Action::Verify(job));
    }

    /// Whose signature a session of a CoValue carries.
    fn signer(&self, session: &SessionId) -> Result<SignerId, Rejection> {
        match session.owner() {
            Owner::Agent(agent) => Ok(agent.signer()),
            Owner::Account(account) => self
                .values
                .get(account)
                .and_then(Entry::index)
                .and_then(|index| index.header.account_agent())
                .map(downbeat_protocol::AgentId::signer)
                .ok_or(Rejection::NotAnAccount),
        }
    }

    pub(crate) fn verified(&mut self, result: Verified) {
        let Verified { id, session, accepted, chain, rejection } = result;
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        let Some(pipeline) = index.pipelines.get_mut(&session) else { return };
        let (author, credit) = (pipeline.author, std::mem::take(&mut pipeline.credit));
        let deletion = pipeline.deletion.take();
        let deletes = deletion.is_some();
        // What was with the verifier when the CoValue was deleted is dropped as if taken.
        let is_late = index.deleted && !session.is_delete();
        // Of a deleted CoValue the log can no longer be compared with what is sent.
        let rejection = rejection.filter(|_| !is_late);
        let has = if rejection.is_none() { Some(pipeline.end) } else { None };
        let end = accepted.last().map(SessionContent::end);
        if let Some(end) = has.or(end) {
            self.peer_has(author, id, &session, end);
        }
        if let Some(chain) = chain.filter(|_| !is_late) {
            self.keep_chain(id, &session, chain);
        }
        match end.filter(|_| !is_late) {
            Some(end) => self.take_verified(id, end, accepted, deletes, (author, credit)),
            None => self.release(author, credit),
        }
        let rejection = self.end_judging(author, id, deletion, rejection);
        let rejection = rejection.filter(|rejection| !self.is_checked_in_vain(id, rejection));
        if let Some(mut rejection) = rejection {
            if let Some(at) = self.forked_at(author, id, &session, &rejection) {
                rejection = Rejection::Forked { at };
                // The author did nothing wrong but to lose what it is sent now.
                self.send_again(author, id, &session, at);
            } else if rejection == Rejection::Unreadable {
                // The author has done nothing wrong.
                self.refuse_session(author, id, session.clone());
            } else {
                self.mark_errored(author, id);
            }
            self.report(Report::new(author, id, rejection).session(&session));
            self.drop_waiting(author, id, &session);
            if self.has_fault(Fault::ForgetOthers)
                && let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut)
            {
                index.awaiting_ack.clear();
            }
        }
        self.continue_pipeline(id, &session);
        self.after_verification(id, author);
    }

    /// Whether content was refused because storage has something else than is known here. Then it
    /// is nobody's fault: the CoValue is looked up, and the author told what there is.
    fn is_checked_in_vain(&mut self, id: CoValueId, rejection: &Rejection) -> bool {
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return false };
        // What is on its way to be stored may just have turned out to be too late.
        index.outdated |= *rejection == Rejection::Unreadable && !index.stores.is_empty();
        index.outdated
    }

    /// Runs of a session, up to `end`, are part of the CoValue from now on.
    fn take_verified(
        &mut self,
        id: CoValueId,
        end: u64,
        runs: Vec<SessionContent>,
        deletes: bool,
        release: (PeerId, u64),
    ) {
        let Some(entry) = self.values.get_mut(&id) else { return };
        entry.add_dependencies_of(id, &runs);
        let (Some(index), Some(first)) = (entry.index_mut(), runs.first()) else { return };
        index.advance(&first.session, end);
        if deletes {
            self.warm_chains -= index.chains.len();
            index.delete();
        }
        let ours = index.verified().clone();
        if let Some(subscription) = self.subscription_mut(release.0, id) {
            subscription.share(&ours);
        }
        self.note_unsynced(id);
        self.store(id, runs, deletes, vec![release], release.0);
        self.forward(id);
    }

    /// Drops what a peer has sent of a session behind something bad.
    fn drop_waiting(&mut self, peer: PeerId, id: CoValueId, session: &SessionId) {
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        let Some(pipeline) = index.pipelines.get_mut(session) else { return };
        let mut credit = 0;
        pipeline.waiting.retain(|waiting| {
            let keep = waiting.peer != peer;
            credit += if keep { 0 } else { waiting.credit };
            keep
        });
        self.release(peer, credit);
    }

    /// Keeps a hash chain, and forgets those that were not used for longest if there are too many.
    fn keep_chain(&mut self, id: CoValueId, session: &SessionId, chain: HashChain) {
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        self.uses += 1;
        let before = index.chains.insert(session.clone(), (chain, self.uses));
        self.warm_chains += usize::from(before.is_none());
        self.chains_used.push_back((id, session.clone(), self.uses));
        while self.warm_chains > self.config.warm_chains {
            let Some((id, session, stamp)) = self.chains_used.pop_front() else { break };
            let index = self.values.get_mut(&id).and_then(Entry::index_mut);
            if let Some(index) = index
                && index.chains.get(&session).is_some_and(|(_, used)| *used == stamp)
            {
                index.chains.remove(&session);
                self.warm_chains -= 1;
            }
        }
        if self.chains_used.len() > 2 * self.warm_chains + MIN_STALE_STAMPS {
            let values = &self.values;
            self.chains_used.retain(|(id, session, stamp)| {
                let index = values.get(id).and_then(Entry::index);
                index
                    .and_then(|index| index.chains.get(session))
                    .is_some_and(|(_, used)| used == stamp)
            });
        }
    }

    /// Where a peer has forked a session, if that is why content is refused.
    fn forked_at(
        &self,
        peer: PeerId,
        id: CoValueId,
        session: &SessionId,
        rejection: &Rejection,
    ) -> Option<u64> {
        let before = self.subscription(peer, id).and_then(Subscription::forked);
        match (rejection, before) {
            (Rejection::Forked { at }, _) => Some(*at),
            (Rejection::BadSignature { .. }, Some((forked, at))) if forked == session => Some(*at),
            _ => None,
        }
    }

    /// Whether content of a session was refused because the peer has forked it.
    pub(crate) fn has_forked(&self, peer: PeerId, id: CoValueId, session: &SessionId) -> bool {
        let forked = self.subscription(peer, id).and_then(Subscription::forked);
        forked.is_some_and(|(forked, _)| forked == session)
    }

    /// A peer turns out to have less of a session than it was believed to have.
    fn send_again(&mut self, peer: PeerId, id: CoValueId, session: &SessionId, from: u64) {
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.mark_forked(session.clone(), from);
            subscription.lower(session, from);
            self.owe(peer, id);
        }
    }

    /// Goes on with what waited for a session's verification.
    fn continue_pipeline(&mut self, id: CoValueId, session: &SessionId) {
        let drops = self.has_fault(Fault::DropWaiting);
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        // Taken out, so that what waits is not put behind itself.
        let Some(pipeline) = index.pipelines.remove(session) else { return };
        let Pipeline { signer, mut waiting, .. } = pipeline;
        if drops {
            waiting.clear();
        }
        while let Some((peer, runs, credit)) = next_runs(&mut waiting) {
            let dropped = runs.last().map(|run| (run.session.clone(), run.end()));
            if !self.accept_runs(peer, id, runs, credit, Some(signer)) {
                self.owe_correction(peer, id, &dropped.into_iter().collect());
            }
            let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
            if let Some(pipeline) = index.pipelines.get_mut(session) {
                pipeline.waiting = waiting;
                return;
            }
        }
    }

    /// What is due when something of a peer may have been the last to be verified: a new CoValue's
    /// header is stored if no content took it along, and what needs no more waiting is
    /// acknowledged.
    pub(crate) fn after_verification(&mut self, id: CoValueId, peer: PeerId) {
        let Some(index) = self.values.get(&id).and_then(Entry::index) else { return };
        let is_verified = index.pipelines.is_empty();
        if index.header_unstored && is_verified {
            self.note_unsynced(id);
            self.store(id, Vec::new(), false, Vec::new(), peer);
        }
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        if index.fresh && is_verified {
            index.fresh = false;
            self.decided(id);
            self.forward(id);
        }
        self.acknowledge(id, &[]);
        self.owe_claimants(id);
        self.take_parked(id);
        self.look_up_again(id);
    }
}

/// Takes the first runs that are from one peer and follow each other, with their credit. A delete
/// session has only one run, so there each is judged by itself.
fn next_runs(waiting: &mut VecDeque<Waiting>) -> Option<(PeerId, Vec<SessionContent>, u64)> {
    let Waiting { peer, run: first, mut credit } = waiting.pop_front()?;
    let mut end = first.end();
    let is_delete = first.session.is_delete();
    let mut runs = vec![first];
    while waiting
        .front()
        .is_some_and(|next| !is_delete && next.peer == peer && next.run.after == end)
        && let Some(next) = waiting.pop_front()
    {
        end = next.run.end();
        credit += next.credit;
        runs.push(next.run);
    }
    Some((peer, runs, credit))
}
