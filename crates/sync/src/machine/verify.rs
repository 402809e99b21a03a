//! Verification: the jobs for the verifiers.

use downbeat_protocol::{AgentId, CoValueId, Owner, SessionContent, SessionId, SignerId};

use crate::action::{Action, VerifyJob};
use crate::credit::Credit;
use crate::event::Verified;
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::rejection::Rejection;
use crate::report::Report;
use crate::state::pipeline::Pipeline;

/// Runs of one session to verify. They follow what is here, and each other.
pub(super) struct Job {
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
    pub(super) fn verify(&mut self, job: Job, credit: Credit, signer: Option<SignerId>) {
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
        let job = VerifyJob { id, session, after, chain, signer, runs, repeated, claim };
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
}
