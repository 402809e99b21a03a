//! Verification: from runs of transactions to jobs for the verifiers.

use downbeat_protocol::{AgentId, CoValueId, Owner, SessionContent, SessionId, SignerId};

use crate::action::{Action, VerifyJob};
use crate::credit::Credit;
use crate::event::{PeerId, Verified};
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::rejection::Rejection;
use crate::report::Report;
use crate::state::pipeline::Pipeline;

/// Runs of one session to verify. They follow what is here, and each other.
pub(in crate::machine) struct Job {
    pub id: CoValueId,
    pub session: SessionId,
    /// The session's count behind the last run, new or not.
    pub end: u64,
    pub runs: Vec<SessionContent>,
    /// See [`VerifyJob::repeated`].
    pub repeated: Vec<SessionContent>,
}

impl Machine {
    /// Gives runs to the verifiers.
    pub(in crate::machine) fn verify(
        &mut self,
        job: Job,
        credit: Credit,
        signer: Option<SignerId>,
    ) {
        let peer = credit.peer();
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
                return self.release(credit);
            }
        };
        let deletion = claim.as_ref().and_then(|_| self.begin_judging(id, &runs));
        let chain = self.take_chain(id, &session);
        let Some(index) = self.index_mut(id) else { return };
        let after = index.verified().get(&session);
        index.insert_pipeline(session.clone(), Pipeline::new(credit, signer, deletion, end));
        if self.has_bug(InjectedBug::TakeUnverified) {
            let accepted = runs;
            let (chain, rejection) = (None, None);
            return self.verified(Verified { id, session, accepted, chain, rejection });
        }
        let is_forked = self.forked(peer, id, &session).is_some();
        let job = VerifyJob {
            id,
            session,
            after,
            chain,
            signer,
            runs,
            repeated,
            claim,
            author: peer,
            is_forked,
        };
        self.actions.push(Action::Verify(job));
    }

    /// The signer of a session.
    fn signer(&self, session: &SessionId) -> Result<SignerId, Rejection> {
        match session.owner() {
            Owner::Agent(agent) => Ok(agent.signer()),
            Owner::Account(account) => self
                .index(*account)
                .and_then(|index| index.header().account_agent())
                .map(AgentId::signer)
                .ok_or(Rejection::NotAnAccount),
        }
    }

    /// Takes runs of one session that follow each other. Returns `false` if the peer has to be
    /// corrected, because the first run does not follow what is here.
    pub(in crate::machine) fn accept_runs(
        &mut self,
        id: CoValueId,
        mut runs: Vec<SessionContent>,
        credit: Credit,
        signer: Option<SignerId>,
    ) -> bool {
        let peer = credit.peer();
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return true };
        let Some(index) = self.index_mut(id) else { return true };
        if let Some(pipeline) = index.pipeline_mut(&first.session) {
            pipeline.push(runs, credit);
            return true;
        }
        let verified = index.verified().get(&first.session);
        // Content for a deleted CoValue is acknowledged and dropped, so that clients that do not
        // know of the deletion stop sending it.
        let is_deleted = index.is_deleted() && !first.session.is_delete();
        let (session, end) = (first.session.clone(), last.end());
        if first.after > verified && !is_deleted {
            self.release(credit);
            // A peer would answer a correction with the refused or forked content.
            return self.forked(peer, id, &session).is_some()
                || self.has_refused(peer, id, &session);
        }
        // The log would have to be read and hashed for each repetition of the fork. A peer that has
        // the same log again sends what follows.
        if first.after < verified
            && !is_deleted
            && let Some(at) = self.forked(peer, id, &session)
        {
            self.release(credit);
            self.reject(peer, id, &session, Rejection::Forked { at });
            return true;
        }
        let repeated: Vec<_> = runs.iter().filter(|run| run.after < verified).cloned().collect();
        // An upstream has verified what it sends, and edges get the same from several upstreams.
        let is_checked =
            repeated.iter().all(|run| run.transactions.is_empty()) || !self.is_client(peer);
        if is_deleted || end <= verified && is_checked {
            self.peer_has(peer, id, &session, end);
            self.release(credit);
            return true;
        }
        runs.retain(|run| run.end() > verified);
        let repeats = self.has_bug(InjectedBug::RepeatKnownPart);
        if let Some(first) = runs.first_mut().filter(|_| !repeats) {
            drop_known_prefix(first, verified);
        }
        let repeated = if is_checked { Vec::new() } else { repeated };
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.accept_session(&session);
        }
        self.verify(Job { id, session, end, runs, repeated }, credit, signer);
        true
    }

    /// Whether content of a session was refused from a peer, and none of it was accepted since.
    pub(in crate::machine) fn has_refused(
        &self,
        peer: PeerId,
        id: CoValueId,
        session: &SessionId,
    ) -> bool {
        !self.has_bug(InjectedBug::CorrectRefused)
            && self.subscription(peer, id).is_some_and(|state| state.has_refused(session))
    }

    /// After how many transactions a peer has forked a session.
    pub(in crate::machine) fn forked(
        &self,
        peer: PeerId,
        id: CoValueId,
        session: &SessionId,
    ) -> Option<u64> {
        self.subscription(peer, id).and_then(|state| state.forked(session))
    }
}

fn drop_known_prefix(content: &mut SessionContent, known: u64) {
    let skip = usize::try_from(known.saturating_sub(content.after)).unwrap_or(usize::MAX);
    content.drop_first(skip);
}
