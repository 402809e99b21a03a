//! The verifier pool: signature checks, beside the machine and in parallel.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use downbeat_crypto::{HashChain, VerifyingKey};
use downbeat_protocol::{CoValueId, SessionContent, SessionCounts, SessionId};
use downbeat_storage::StorageError;
use downbeat_sync::{Event, Rejection, Verified, VerifyJob};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::error;

use crate::content::ContentStore;
use crate::delete;

/// Threads that verify. Jobs of one session come one at a time, so any thread may take any job.
pub(crate) struct Verifier {
    shared: Arc<Shared>,
}

struct Shared {
    /// Bounded by what peers may have in the machine's care at a time.
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<VerifyJob>,
    closed: bool,
}

impl Verifier {
    /// Starts `threads` threads that report to `events`.
    pub(crate) fn start(
        threads: usize,
        content: &ContentStore,
        events: &mpsc::Sender<Event>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), ready: Condvar::new() });
        // Made first, so that the threads started so far end if one cannot be started.
        let verifier = Self { shared: Arc::clone(&shared) };
        for number in 0..threads {
            let worker = Worker {
                shared: Arc::clone(&shared),
                content: content.clone(),
                events: events.clone(),
                runtime: Handle::current(),
            };
            thread::Builder::new()
                .name(format!("verifier-{number}"))
                .spawn(move || worker.run())?;
        }
        Ok(verifier)
    }

    /// Hands a job to the pool.
    pub(crate) fn submit(&self, job: VerifyJob) {
        self.shared.queue().jobs.push_back(job);
        self.shared.ready.notify_one();
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.ready.notify_all();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<VerifyJob> {
        let mut queue = self.queue();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    content: ContentStore,
    events: mpsc::Sender<Event>,
    runtime: Handle,
}

impl Worker {
    fn run(&self) {
        while let Some(job) = self.shared.next() {
            let verified = self.verify(job);
            if self.events.blocking_send(Event::Verified(verified)).is_err() {
                return;
            }
        }
    }

    fn verify(&self, job: VerifyJob) -> Verified {
        let VerifyJob { id, session, after, chain, signer, runs, repeated, claim } = job;
        let mut verified = Verified { id, session, accepted: Vec::new(), chain, rejection: None };
        let Ok(key) = VerifyingKey::new(signer) else {
            verified.rejection = Some(Rejection::InvalidSigner);
            return verified;
        };
        let chain = match verified.chain.take() {
            Some(chain) => Ok(chain),
            None => self.rebuild_chain(id, &verified.session, after),
        };
        let mut chain = match chain {
            Ok(chain) => chain,
            Err(rejection) => {
                verified.rejection = Some(rejection);
                return verified;
            }
        };
        if let Some(rejection) =
            repeated.iter().find_map(|run| self.compare(id, run, after, &key).err())
        {
            verified.rejection = Some(rejection);
            verified.chain = Some(chain);
            return verified;
        }
        for run in runs {
            let mut next = chain.clone();
            for transaction in &run.transactions {
                next.append(transaction.json());
            }
            if key.verify_chain(&next, &run.last_signature).is_err() {
                verified.rejection = Some(Rejection::BadSignature { after: run.after });
                break;
            }
            if let Some(claim) = &claim
                && let Err(rejection) = self.runtime.block_on(delete::check(&self.content, claim))
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
        &self,
        id: CoValueId,
        run: &SessionContent,
        end: u64,
        key: &VerifyingKey,
    ) -> Result<(), Rejection> {
        let until = SessionCounts::from_iter([(run.session.clone(), end.min(run.end()))]);
        let mut at = run.after;
        let mut theirs = run.transactions.iter();
        while at < end.min(run.end()) {
            let ours = self.runtime.block_on(self.content.read_session(id, &until, at));
            let ours = ours.map_err(|error| unreadable(id, &run.session, &error))?;
            let before = at;
            for ours in ours.iter().filter(|ours| ours.session == run.session) {
                for (ours, theirs) in ours.transactions.iter().zip(theirs.by_ref()) {
                    if ours != theirs {
                        return Err(self.forked_or_forged(id, run, at, key));
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

    /// Why a run differs from what is there after `at` transactions: it is the author's if the
    /// author has signed the log that it would make.
    fn forked_or_forged(
        &self,
        id: CoValueId,
        run: &SessionContent,
        at: u64,
        key: &VerifyingKey,
    ) -> Rejection {
        let mut chain = match self.rebuild_chain(id, &run.session, run.after) {
            Ok(chain) => chain,
            Err(rejection) => return rejection,
        };
        for transaction in &run.transactions {
            chain.append(transaction.json());
        }
        match key.verify_chain(&chain, &run.last_signature) {
            Ok(()) => Rejection::Forked { at },
            Err(_) => Rejection::BadSignature { after: run.after },
        }
    }

    /// The hash chain of the first `after` transactions of a session.
    fn rebuild_chain(
        &self,
        id: CoValueId,
        session: &SessionId,
        after: u64,
    ) -> Result<HashChain, Rejection> {
        let mut chain = HashChain::new();
        if after == 0 {
            return Ok(chain);
        }
        let until = SessionCounts::from_iter([(session.clone(), after)]);
        let mut at = 0;
        while at < after {
            let runs = self.runtime.block_on(self.content.read_session(id, &until, at));
            let runs = runs.map_err(|error| unreadable(id, session, &error))?;
            let before = at;
            for run in runs {
                if run.session != *session || run.after != at {
                    continue;
                }
                let count = usize::try_from(after - at).unwrap_or(usize::MAX);
                for transaction in run.transactions.iter().take(count) {
                    chain.append(transaction.json());
                }
                at = run.end().min(after);
            }
            if at == before {
                error!(co_value = %id, %session, at, after, "a log ends before its count");
                return Err(Rejection::Unreadable);
            }
        }
        Ok(chain)
    }
}

fn unreadable(id: CoValueId, session: &SessionId, error: &StorageError) -> Rejection {
    error!(co_value = %id, %session, %error, "a log could not be read");
    Rejection::Unreadable
}
