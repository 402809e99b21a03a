//! The verifier pool: threads that check signatures in parallel.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use downbeat_driver::{ContentStore, Ed25519, Failure, Verification, verify};
use downbeat_sync::{Event, Rejection, VerifyJob};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::{debug_span, error};

use crate::catch_panics::catch;
use crate::failure::{RETRY, reading_failed};
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
    /// Each with the time at which it came.
    jobs: VecDeque<(VerifyJob, Instant)>,
    /// Threads that sleep.
    asleep: usize,
    /// Threads that have been woken and do not run yet.
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
        // A wake-up costs about a tenth of a check, so no thread is woken in vain.
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
            let verification = self.verify(&job);
            if let Some(failure) = &verification.failure {
                self.log(&job, failure);
            }
            if verification.is_worth_a_retry() {
                self.retry_later(job, since);
                continue;
            }
            self.counters.verification.time(since.elapsed());
            let verified = Event::Verified(verification.into_verified(job));
            if self.events.blocking_send(verified).is_err() {
                return;
            }
        }
    }

    /// Queues a job again after a pause, because storage failed. Meanwhile the thread can verify
    /// sessions that need nothing from storage.
    fn retry_later(&self, job: VerifyJob, since: Instant) {
        add(&self.counters.storage.read_retries, 1);
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.runtime.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(RETRY) => shared.add(job, since),
                () = events.closed() => {}
            }
        });
    }

    /// Verifies a job. A panic would take the thread, and the session would wait for ever.
    fn verify(&self, job: &VerifyJob) -> Verification {
        let span = debug_span!("verify", co_value = %job.id, session = %job.session);
        let _verifying = span.enter();
        let verified = self.runtime.block_on(catch(verify(&self.content, &Ed25519, job)));
        verified.unwrap_or_else(|panic| {
            error!(co_value = %job.id, session = %job.session, panic, "verifying failed: a bug");
            let failure = Some(Rejection::Unreadable.into());
            Verification { accepted: 0, chain: None, failure }
        })
    }

    fn log(&self, job: &VerifyJob, failure: &Failure) {
        match failure {
            Failure::Rejected(_) => {}
            Failure::Storage { id, error } => {
                reading_failed("a log could not be read", Some(*id), error, &self.counters);
            }
            Failure::LogTooShort { count, expected } => error!(
                co_value = %job.id, session = %job.session, count, expected,
                "the stored log of a session is shorter than its count"
            ),
        }
    }
}
