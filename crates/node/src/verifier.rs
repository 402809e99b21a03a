//! The verifier pool: threads that check signatures in parallel.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use downbeat_driver::{ContentStore, Ed25519, Failure, Verification, VerifyLimits};
use downbeat_protocol::CoValueId;
use downbeat_sync::{Event, PeerId, Rejection, Verified, VerifyJob};
use rustc_hash::FxHashMap;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::{debug_span, error};

use crate::catch_panics::catch;
use crate::failure::{RETRY, reading_failed};
use crate::link::{Kind, Link};
use crate::lock::lock;
use crate::rounds::Rounds;
use crate::source::Source;
use crate::stats::{Counters, add};

/// Bytes of stored transactions that are read for a job, and count as one message of its sender: a
/// stored log of 27 MB counts as 6,600 messages.
const BYTES_PER_MESSAGE: u64 = 4 << 10;

/// Threads that verify. Peers take turns, and a large job is verified in portions. Jobs of one
/// session come one at a time, so any thread may take any job.
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
    jobs: Rounds<Job>,
    /// What each peer has here of each CoValue.
    contents: FxHashMap<(PeerId, CoValueId), Jobs>,
    /// Threads that sleep.
    asleep: usize,
    /// Threads that have been woken and do not run yet.
    called: usize,
    closed: bool,
}

/// A job with its progress.
struct Job {
    verification: Verification,
    /// When it came.
    since: Instant,
    /// The peer that sent the content, if it was connected then.
    link: Option<Arc<Link>>,
}

/// The jobs of one peer's content for one CoValue.
#[derive(Default)]
struct Jobs {
    /// Those that are not finished.
    unfinished: usize,
    /// Whether one of them was bad. The rest is refused without being verified: the machine takes
    /// nothing more of the CoValue from the peer.
    are_bad: bool,
}

impl Job {
    fn source(&self) -> Source {
        let author = self.verification.job().author;
        Link::source_of(author, self.link.as_ref())
    }

    fn content(&self) -> (PeerId, CoValueId) {
        let job = self.verification.job();
        (job.author, job.id)
    }

    /// Whether its failure shows that the peer's content for this CoValue cannot be trusted.
    fn is_bad(&self) -> bool {
        // An upstream has verified what it sends: one damaged session does not spoil the others.
        let is_client = self.link.as_ref().is_none_or(|link| matches!(link.kind, Kind::Client));
        let is_bad = match self.verification.failure() {
            Some(Failure::Rejected(rejection)) => match rejection {
                // The client has lost the end of its log.
                Rejection::Forked { .. } | Rejection::Unreadable => false,
                Rejection::BadSignature { .. } => !self.verification.job().is_forked,
                _ => true,
            },
            _ => false,
        };
        is_client && is_bad
    }
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
                ed25519: Ed25519::default(),
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

    /// Hands a job to the pool, with the connection of its author.
    pub(crate) fn submit(&self, job: VerifyJob, link: Option<&Arc<Link>>) {
        let verification = Verification::new(job);
        let job = Job { verification, since: Instant::now(), link: link.cloned() };
        let mut queue = self.shared.queue();
        queue.contents.entry(job.content()).or_default().unfinished += 1;
        self.shared.add(queue, job);
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
        lock(&self.queue)
    }

    fn add(&self, mut queue: MutexGuard<'_, Queue>, job: Job) {
        queue.jobs.push(job.source(), job.verification.job().author, job);
        // A wake-up costs about a tenth of a check, so no thread is woken in vain.
        let call = queue.asleep > queue.called;
        queue.called += usize::from(call);
        drop(queue);
        if call {
            self.ready.notify_one();
        }
    }

    /// The job whose turn it is, and whether its peer's content is bad.
    fn next(&self) -> Option<(Job, bool)> {
        let mut queue = self.queue();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop() {
                let are_bad = queue.contents.get(&job.content()).is_some_and(|jobs| jobs.are_bad);
                return Some((job, are_bad));
            }
            queue.asleep += 1;
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.asleep -= 1;
            queue.called = queue.called.saturating_sub(1);
        }
    }

    /// A portion of a job is done. The thread that put it back takes the next.
    fn put_back(&self, job: Job) {
        self.queue().jobs.put_back(job.source(), job.verification.job().author, job);
    }

    /// A job is finished.
    fn finished(&self, job: &Job) {
        let mut queue = self.queue();
        let Some(jobs) = queue.contents.get_mut(&job.content()) else { return };
        jobs.are_bad |= job.is_bad();
        jobs.unfinished -= 1;
        if jobs.unfinished == 0 {
            queue.contents.remove(&job.content());
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    content: ContentStore,
    ed25519: Ed25519,
    events: mpsc::Sender<Event>,
    counters: Arc<Counters>,
    runtime: Handle,
}

impl Worker {
    fn run(&self) {
        while let Some((job, is_bad)) = self.shared.next() {
            if let Some(verified) = self.work_on(job, is_bad)
                && self.events.blocking_send(Event::Verified(verified)).is_err()
            {
                return;
            }
        }
    }

    /// Verifies a portion of a job, or refuses the job because its content is bad. Returns the
    /// result, if the job is finished.
    fn work_on(&self, mut job: Job, is_bad: bool) -> Option<Verified> {
        if is_bad {
            job.verification.refuse(Rejection::Errored);
        } else if !self.step(&mut job.verification) {
            self.shared.put_back(job);
            return None;
        }
        if let Some(failure) = job.verification.failure() {
            self.log(job.verification.job(), failure);
        }
        if job.verification.is_worth_a_retry() {
            self.retry_later(job);
            return None;
        }
        self.counters.verification.time(job.since.elapsed());
        if let Some(link) = &job.link {
            link.debts.charge(job.verification.bytes_read() / BYTES_PER_MESSAGE);
        }
        self.shared.finished(&job);
        Some(job.verification.into_verified())
    }

    /// Queues a job again after a pause, because storage failed. Meanwhile the thread can verify
    /// sessions that need nothing from storage.
    fn retry_later(&self, job: Job) {
        add(&self.counters.storage.read_retries, 1);
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.runtime.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(RETRY) => shared.add(shared.queue(), job),
                () = events.closed() => {}
            }
        });
    }

    /// Verifies a portion of a job. Returns whether it is finished. A panic would take the thread,
    /// and the session would wait for ever.
    fn step(&self, verification: &mut Verification) -> bool {
        let (id, session) = (verification.job().id, verification.job().session.clone());
        let span = debug_span!("verify", co_value = %id, %session);
        let _verifying = span.enter();
        let step = verification.step(&self.content, &self.ed25519, VerifyLimits::default());
        let stepped = self.runtime.block_on(catch(step));
        stepped.unwrap_or_else(|panic| {
            error!(co_value = %id, %session, panic, "verifying failed: a bug");
            verification.refuse(Rejection::Unreadable);
            true
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
