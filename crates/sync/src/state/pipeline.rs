//! Content on its way through the verifier. A session has one job with the verifiers at a time;
//! what comes meanwhile waits in its pipeline.

use std::collections::VecDeque;

use downbeat_protocol::{CoValueId, SessionContent, SignerId};

use crate::credit::Credit;
use crate::event::PeerId;
use crate::state::pending::PendingRun;

/// The content of one session that is being verified, or waits for that.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// The credit of the runs that the verifier has, until they are verified.
    credit: Credit,
    /// The signer of the session. Kept here, because the account that names it may be forgotten
    /// while content waits.
    signer: SignerId,
    /// Present if the runs that the verifier has delete the CoValue.
    deletion: Option<Box<Deletion>>,
    /// The session's count behind those runs, which their author has if they are valid.
    end: u64,
    /// What came meanwhile, in the order in which it came.
    waiting: VecDeque<PendingRun>,
}

/// A deletion that is being judged by what is stored of the groups that decide over it.
#[derive(Debug)]
pub(crate) struct Deletion {
    /// The one transaction.
    pub run: SessionContent,
    /// The groups, each with the number of its stored transactions if it was in memory before.
    pub groups: Vec<(CoValueId, Option<u64>)>,
}

impl Deletion {
    /// The CoValues that are pinned meanwhile: the groups, and the author's account. A deletion that
    /// is refused waits with all of them in memory, and is judged again when one has to be looked
    /// up for that.
    pub(crate) fn pinned(&self) -> impl Iterator<Item = CoValueId> {
        self.groups.iter().map(|(group, _)| *group).chain(self.run.session.account())
    }
}

/// Runs of one peer that follow each other.
pub(crate) struct NextRuns {
    pub runs: Vec<SessionContent>,
    pub credit: Credit,
}

impl Pipeline {
    pub(crate) fn new(
        credit: Credit,
        signer: SignerId,
        deletion: Option<Box<Deletion>>,
        end: u64,
    ) -> Self {
        Self { credit, signer, deletion, end, waiting: VecDeque::new() }
    }

    /// The peer that sent what the verifier has.
    pub(crate) fn author(&self) -> PeerId {
        self.credit.peer()
    }

    pub(crate) fn signer(&self) -> SignerId {
        self.signer
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Whether content of a peer is being verified, or waits.
    pub(crate) fn is_for(&self, peer: PeerId) -> bool {
        self.author() == peer || self.waiting.iter().any(|run| run.credit.peer() == peer)
    }

    /// Adds runs behind those that wait. The first takes the credit of all.
    pub(crate) fn push(&mut self, runs: Vec<SessionContent>, mut credit: Credit) {
        self.waiting.extend(runs.into_iter().map(|run| PendingRun { run, credit: credit.take() }));
    }

    /// The verifier is done: takes out what belonged to its job.
    pub(crate) fn finish(&mut self) -> (Credit, Option<Box<Deletion>>) {
        (self.credit.take(), self.deletion.take())
    }

    /// Drops what a peer has waiting, and gives its credit back.
    pub(crate) fn drop_waiting_of(&mut self, peer: PeerId) -> Credit {
        let mut credit = Credit::released(peer);
        self.waiting.retain_mut(|run| {
            let keep = run.credit.peer() != peer;
            if !keep {
                credit.merge(run.credit.take());
            }
            keep
        });
        credit
    }

    /// What waits behind the job.
    pub(crate) fn into_waiting(self) -> VecDeque<PendingRun> {
        self.waiting
    }

    /// Puts back what waits behind a new job.
    pub(crate) fn set_waiting(&mut self, waiting: VecDeque<PendingRun>) {
        self.waiting = waiting;
    }
}

/// Takes the first runs that are from one peer and follow each other. A delete session has only
/// one run, so there each is judged by itself.
pub(crate) fn next_runs(waiting: &mut VecDeque<PendingRun>) -> Option<NextRuns> {
    let PendingRun { run: first, mut credit } = waiting.pop_front()?;
    let mut end = first.end();
    let is_delete = first.session.is_delete();
    let mut runs = vec![first];
    while waiting.front().is_some_and(|next| {
        !is_delete && next.credit.peer() == credit.peer() && next.run.after == end
    }) && let Some(next) = waiting.pop_front()
    {
        end = next.run.end();
        credit.merge(next.credit);
        runs.push(next.run);
    }
    Some(NextRuns { runs, credit })
}
