//! A node: the machine with everything around it, as the runtime has it, but for threads and time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use downbeat_crypto::{HashChain, VerifyingKey};
use downbeat_protocol::{
    CoValueId, KnownState, LongHash, SessionContent, SessionCounts, SessionId, Signature, SignerId,
};
use downbeat_storage::{MemoryStorage, Outcome, SessionOutcome, Storage, UnsyncedUpdate, Write};
use downbeat_sync::{
    Machine, Millis, PeerId, Refusal, Rejection, StoreJob, Stored, Verified, VerifyJob,
};
use rustc_hash::FxHashMap;

use crate::content::ContentStore;
use crate::lookup::check_claim;
use crate::scenario::NodePlan;

/// A node.
pub(crate) struct Node {
    pub plan: NodePlan,
    pub machine: Machine,
    /// How often it has been started.
    pub life: u32,
    pub up: bool,
    /// What is durable.
    pub storage: Arc<MemoryStorage>,
    /// An older copy of it.
    pub backup: Option<Arc<MemoryStorage>>,
    /// What clients' content was refused, by CoValue.
    pub refused: BTreeMap<CoValueId, BTreeSet<Refusal>>,
    pub content: ContentStore,
    /// Its connections.
    pub links: BTreeMap<PeerId, Account>,
    /// Connections that have ended since the node was started.
    pub ended: BTreeMap<PeerId, Account>,
    /// What is to be written to storage.
    pub jobs: VecDeque<Job>,
    pub writing: bool,
    pub poll_due: bool,
    pub tick_at: Option<Millis>,
    /// What clients have seen acknowledged by this node.
    pub acknowledged: BTreeMap<CoValueId, KnownState>,
}

/// What a peer has in the node's care.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Account {
    pub taken: u64,
    pub released: u64,
    /// Whether a turn is being written.
    pub busy: bool,
}

/// Something to write to storage.
#[derive(Debug)]
pub(crate) enum Job {
    Store(StoreJob),
    Track(UnsyncedUpdate),
}

impl Node {
    pub(crate) fn new(plan: NodePlan) -> Self {
        let storage = Arc::new(MemoryStorage::new());
        Self {
            machine: Machine::new(plan.config),
            content: ContentStore::new(Arc::clone(&storage), plan.hot_bytes),
            plan,
            life: 0,
            up: false,
            storage,
            backup: None,
            refused: BTreeMap::new(),
            links: BTreeMap::new(),
            ended: BTreeMap::new(),
            jobs: VecDeque::new(),
            writing: false,
            poll_due: false,
            tick_at: None,
            acknowledged: BTreeMap::new(),
        }
    }

    /// Starts with nothing but what storage has.
    pub(crate) fn start(&mut self) {
        let storage = Arc::clone(&self.storage);
        self.machine = Machine::new(self.plan.config);
        self.content = ContentStore::new(storage, self.plan.hot_bytes);
        self.life += 1;
        self.up = true;
        self.ended.clear();
        self.jobs.clear();
        (self.writing, self.poll_due, self.tick_at) = (false, false, None);
    }

    /// What a peer may still send.
    pub(crate) fn credit_left(&self, account: &Account) -> i64 {
        let outstanding = account.taken.saturating_sub(account.released);
        self.plan.credit - i64::try_from(outstanding).unwrap_or(i64::MAX)
    }

    /// What is durable of a CoValue, and whether it is deleted.
    pub(crate) fn durable(&self, id: CoValueId) -> Option<(SessionCounts, bool)> {
        let stored = at_once(self.storage.load(id)).ok()??;
        Some((stored.counts(), stored.deleted))
    }

    /// All CoValues in storage.
    pub(crate) fn stored_ids(&self) -> Vec<CoValueId> {
        at_once(self.storage.list(None, usize::MAX)).unwrap_or_default()
    }
}

/// Checks signatures, each only once in a run of the simulation.
#[derive(Default)]
pub(crate) struct Verifier {
    known: FxHashMap<(SignerId, LongHash, Signature), bool>,
}

impl Verifier {
    pub(crate) fn verify(&mut self, content: &ContentStore, job: VerifyJob) -> Verified {
        let VerifyJob { id, session, after, chain, signer, runs, repeated, claim } = job;
        let mut verified = Verified { id, session, accepted: Vec::new(), chain, rejection: None };
        let chain = match verified.chain.take() {
            Some(chain) => Some(chain),
            None => rebuild_chain(content, id, &verified.session, after),
        };
        let Some(mut chain) = chain else {
            verified.rejection = Some(Rejection::Unreadable);
            return verified;
        };
        let mut differs =
            |run: &SessionContent| self.compare(content, id, run, after, signer).err();
        if let Some(rejection) = repeated.iter().find_map(&mut differs) {
            verified.rejection = Some(rejection);
            verified.chain = Some(chain);
            return verified;
        }
        for run in runs {
            let mut next = chain.clone();
            next.append_all(run.transactions.iter().map(|tx| &tx.json()[..]));
            if !self.is_valid(signer, &next, run.last_signature) {
                verified.rejection = Some(Rejection::BadSignature { after: run.after });
                break;
            }
            if let Some(claim) = &claim
                && let Err(rejection) = check_claim(content, claim)
            {
                verified.rejection = Some(rejection);
                break;
            }
            chain = next;
            verified.accepted.push(run);
        }
        verified.chain = Some(chain);
        verified
    }

    /// Compares what a peer sends again with what is there, up to `end`.
    fn compare(
        &mut self,
        content: &ContentStore,
        id: CoValueId,
        run: &SessionContent,
        end: u64,
        signer: SignerId,
    ) -> Result<(), Rejection> {
        let end = end.min(run.end());
        let until = SessionCounts::from_iter([(run.session.clone(), end)]);
        let mut at = run.after;
        let mut theirs = run.transactions.iter();
        while at < end {
            let before = at;
            for ours in content.read_session(id, &until, at) {
                if ours.session != run.session {
                    continue;
                }
                for (ours, theirs) in ours.transactions.iter().zip(theirs.by_ref()) {
                    if ours != theirs {
                        return Err(self.forked_or_forged(content, id, run, at, signer));
                    }
                    at += 1;
                }
            }
            if at == before {
                return Err(Rejection::Unreadable);
            }
        }
        Ok(())
    }

    fn forked_or_forged(
        &mut self,
        content: &ContentStore,
        id: CoValueId,
        run: &SessionContent,
        at: u64,
        signer: SignerId,
    ) -> Rejection {
        let Some(mut chain) = rebuild_chain(content, id, &run.session, run.after) else {
            return Rejection::Unreadable;
        };
        chain.append_all(run.transactions.iter().map(|tx| &tx.json()[..]));
        if self.is_valid(signer, &chain, run.last_signature) {
            Rejection::Forked { at }
        } else {
            Rejection::BadSignature { after: run.after }
        }
    }

    fn is_valid(&mut self, signer: SignerId, chain: &HashChain, signature: Signature) -> bool {
        *self.known.entry((signer, chain.head(), signature)).or_insert_with(|| {
            VerifyingKey::new(signer).is_ok_and(|key| key.verify_chain(chain, &signature).is_ok())
        })
    }
}

/// The hash chain of the first `after` transactions of a session.
fn rebuild_chain(
    content: &ContentStore,
    id: CoValueId,
    session: &SessionId,
    after: u64,
) -> Option<HashChain> {
    let mut chain = HashChain::new();
    let until = SessionCounts::from_iter([(session.clone(), after)]);
    let mut at = 0;
    while at < after {
        let before = at;
        for run in content.read_session(id, &until, at) {
            if run.session == *session && run.after == at {
                let count = usize::try_from(after - at).ok()?;
                chain.append_all(run.transactions.iter().take(count).map(|tx| &tx.json()[..]));
                at = run.end().min(after);
            }
        }
        if at == before {
            return None;
        }
    }
    Some(chain)
}

/// The writes that a job is made of.
pub(crate) fn writes_of(job: &StoreJob) -> Vec<Write> {
    let append = |sessions| Write::Append { id: job.id, header: job.header.clone(), sessions };
    if !job.delete {
        return vec![append(job.sessions.clone())];
    }
    let header = job.header.is_some().then(|| append(Vec::new()));
    let tombstone = |session| Write::Tombstone { id: job.id, session };
    header.into_iter().chain(job.sessions.iter().cloned().map(tombstone)).collect()
}

/// What the machine is told about a job.
pub(crate) fn stored(job: &StoreJob, outcomes: impl Iterator<Item = Outcome>) -> Stored {
    let mut stored = Stored { id: job.id, durable: SessionCounts::new(), conflict: false };
    let mut runs = job.sessions.iter();
    for outcome in outcomes {
        let Outcome::Applied(applied) = outcome else {
            stored.conflict = true;
            continue;
        };
        for (outcome, run) in applied.into_iter().zip(runs.by_ref()) {
            match outcome {
                SessionOutcome::Applied => stored.durable.raise(&run.session, run.end()),
                SessionOutcome::Conflict { stored: there } if there >= run.end() => {
                    stored.durable.raise(&run.session, run.end());
                }
                SessionOutcome::Conflict { .. } => stored.conflict = true,
                SessionOutcome::Deleted => {}
            }
        }
    }
    stored
}

/// The result of a future that waits for nothing, as nothing does that reads a storage in memory.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a storage in memory never waits"),
    }
}
