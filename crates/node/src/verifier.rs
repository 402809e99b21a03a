//! The verifier pool: signature checks, beside the machine and in parallel.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use downbeat_crypto::{HashChain, VerifyingKey};
use downbeat_protocol::{CoValueId, SessionContent, SessionCounts, SessionId};
use downbeat_storage::StorageError;
use downbeat_sync::{Event, Rejection, Verified, VerifyJob};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::{debug_span, error};

use crate::contained;
use crate::content::ContentStore;
use crate::delete;
use crate::failure::{RETRY, may_pass, reading_failed};
use crate::stats::{Counters, add};

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
    /// With when each was handed in.
    jobs: VecDeque<(VerifyJob, Instant)>,
    /// Threads that sleep.
    asleep: usize,
    /// How many of them have been called and not woken up yet.
    called: usize,
    closed: bool,
}

impl Verifier {
    /// Starts `threads` threads that report to `events`, and end when this is dropped.
    pub(crate) fn start(
        threads: usize,
        content: &ContentStore,
        events: &mpsc::Sender<Event>,
        counters: &Arc<Counters>,
    ) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let shared = Arc::new(Shared { queue: Mutex::default(), ready: Condvar::new() });
        // Made first, so that the threads started so far end if one cannot be started.
        let verifier = Self { shared: Arc::clone(&shared) };
        let mut handles = Vec::new();
        for number in 0..threads {
            let worker = Worker {
                shared: Arc::clone(&shared),
                content: content.clone(),
                events: events.clone(),
                counters: Arc::clone(counters),
                runtime: Handle::current(),
            };
            let thread = thread::Builder::new().name(format!("verifier-{number}"));
            handles.push(thread.spawn(move || worker.run())?);
        }
        Ok((verifier, handles))
    }

    /// Jobs that wait.
    pub(crate) fn len(&self) -> usize {
        self.shared.queue().jobs.len()
    }

    /// Hands a job to the pool.
    pub(crate) fn submit(&self, job: VerifyJob) {
        self.shared.add(job, Instant::now());
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

    fn add(&self, job: VerifyJob, since: Instant) {
        let mut queue = self.queue();
        queue.jobs.push_back((job, since));
        // Calling costs about as much as a tenth of a check, so nobody is called in vain.
        let call = queue.asleep > queue.called;
        queue.called += usize::from(call);
        drop(queue);
        if call {
            self.ready.notify_one();
        }
    }

    fn next(&self) -> Option<(VerifyJob, Instant)> {
        let mut queue = self.queue();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue.asleep += 1;
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.asleep -= 1;
            queue.called = queue.called.saturating_sub(1);
        }
    }
}

/// What is found out of a job.
struct Checked {
    /// The runs that are in order, from the first on.
    accepted: usize,
    /// The hash chain behind them, if it could be had.
    chain: Option<HashChain>,
    rejection: Option<Rejection>,
}

/// Storage could not be read, and may be later.
struct TryLater;

/// Why a job is not found to be in order.
pub(crate) enum Failure {
    /// It is not.
    Rejected(Rejection),
    /// Storage could not be read, and may be later.
    TryLater,
}

impl Failure {
    pub(crate) fn of_storage(error: &StorageError) -> Self {
        if may_pass(error) { Self::TryLater } else { Self::Rejected(Rejection::Unreadable) }
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

struct Worker {
    shared: Arc<Shared>,
    content: ContentStore,
    events: mpsc::Sender<Event>,
    counters: Arc<Counters>,
    runtime: Handle,
}

impl Worker {
    fn run(&self) {
        while let Some((job, since)) = self.shared.next() {
            match self.check(&job) {
                Ok(checked) => {
                    self.counters.verification.time(since.elapsed());
                    let verified = Event::Verified(checked.verified(job));
                    if self.events.blocking_send(verified).is_err() {
                        return;
                    }
                }
                Err(_) => self.later(job, since),
            }
        }
    }

    /// Takes a job up again when storage had time to get well. Until then the thread is free for
    /// the sessions that need nothing from storage.
    fn later(&self, job: VerifyJob, since: Instant) {
        add(&self.counters.storage.read_retries, 1);
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.runtime.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(RETRY) => shared.add(job, since),
                () = events.closed() => {}
            }
        });
    }

    fn check(&self, job: &VerifyJob) -> Result<Checked, TryLater> {
        let span = debug_span!("verify", co_value = %job.id, session = %job.session);
        let _verifying = span.enter();
        let mut checked = Checked { accepted: 0, chain: None, rejection: None };
        // A panic would take the thread, and the session would wait for ever.
        let result = catch_unwind(AssertUnwindSafe(|| self.check_runs(job, &mut checked)));
        let result = result.unwrap_or_else(|panic| {
            let panic = contained::words(&*panic);
            error!(co_value = %job.id, session = %job.session, panic, "verifying failed: a bug");
            Err(Rejection::Unreadable.into())
        });
        match result {
            Ok(()) => Ok(checked),
            Err(Failure::Rejected(rejection)) => {
                checked.rejection = Some(rejection);
                Ok(checked)
            }
            Err(Failure::TryLater) => Err(TryLater),
        }
    }

    /// Goes through the runs of a job, and notes how far they are in order.
    fn check_runs(&self, job: &VerifyJob, checked: &mut Checked) -> Result<(), Failure> {
        let key = VerifyingKey::new(job.signer).map_err(|_| Rejection::InvalidSigner)?;
        let chain = match &job.chain {
            Some(chain) => chain.clone(),
            None => self.rebuild_chain(job.id, &job.session, job.after)?,
        };
        let chain = checked.chain.insert(chain);
        for run in &job.repeated {
            self.compare(job.id, run, job.after, &key)?;
        }
        for run in &job.runs {
            let mut next = chain.clone();
            for transaction in &run.transactions {
                next.append(transaction.json());
            }
            if key.verify_chain(&next, &run.last_signature).is_err() {
                return Err(Rejection::BadSignature { after: run.after }.into());
            }
            if let Some(claim) = &job.claim {
                self.runtime.block_on(delete::check(&self.content, claim))?;
            }
            *chain = next;
            checked.accepted += 1;
        }
        Ok(())
    }

    /// Compares what a peer sends again with what is there, up to `end`.
    fn compare(
        &self,
        id: CoValueId,
        run: &SessionContent,
        end: u64,
        key: &VerifyingKey,
    ) -> Result<(), Failure> {
        let until = SessionCounts::from_iter([(run.session.clone(), end.min(run.end()))]);
        let mut at = run.after;
        let mut theirs = run.transactions.iter();
        while at < end.min(run.end()) {
            let ours = self.runtime.block_on(self.content.read_session(id, &until, at));
            let ours = ours.map_err(|error| self.unreadable(id, &error))?;
            let before = at;
            for ours in ours.iter().filter(|ours| ours.session == run.session) {
                for (ours, theirs) in ours.transactions.iter().zip(theirs.by_ref()) {
                    if ours != theirs {
                        return Err(self.forked_or_forged(id, run, at, key)?.into());
                    }
                    at += 1;
                }
            }
            if at == before {
                error!(co_value = %id, session = %run.session, at, end, "a log ends before its count");
                return Err(Rejection::Unreadable.into());
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
    ) -> Result<Rejection, Failure> {
        let mut chain = self.rebuild_chain(id, &run.session, run.after)?;
        for transaction in &run.transactions {
            chain.append(transaction.json());
        }
        Ok(match key.verify_chain(&chain, &run.last_signature) {
            Ok(()) => Rejection::Forked { at },
            Err(_) => Rejection::BadSignature { after: run.after },
        })
    }

    /// The hash chain of the first `after` transactions of a session.
    fn rebuild_chain(
        &self,
        id: CoValueId,
        session: &SessionId,
        after: u64,
    ) -> Result<HashChain, Failure> {
        let mut chain = HashChain::new();
        if after == 0 {
            return Ok(chain);
        }
        let until = SessionCounts::from_iter([(session.clone(), after)]);
        let mut at = 0;
        while at < after {
            let runs = self.runtime.block_on(self.content.read_session(id, &until, at));
            let runs = runs.map_err(|error| self.unreadable(id, &error))?;
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
                return Err(Rejection::Unreadable.into());
            }
        }
        Ok(chain)
    }

    fn unreadable(&self, id: CoValueId, error: &StorageError) -> Failure {
        reading_failed("a log could not be read", Some(id), error, &self.counters);
        Failure::of_storage(error)
    }
}

impl Checked {
    fn verified(self, job: VerifyJob) -> Verified {
        let VerifyJob { id, session, runs: mut accepted, .. } = job;
        accepted.truncate(self.accepted);
        Verified { id, session, accepted, chain: self.chain, rejection: self.rejection }
    }
}
