//! The storage writer: everything that waits when storage is free goes in one batch.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use downbeat_protocol::{SessionContent, SessionCounts};
use downbeat_storage::{Outcome, SessionOutcome, StorageError, UnsyncedUpdate, Write};
use downbeat_sync::{Event, StoreJob, Stored, content_bytes};
use tokio::sync::{Notify, mpsc};
use tracing::{Instrument, debug_span};

use crate::content::ContentStore;
use crate::failure::{RETRY, writing_failed, writing_works};
use crate::stats::{Counters, add};

/// Stores in one batch. Enough for one flush to be spread thin, and few enough that the first of
/// them does not wait long for the last.
const MAX_BATCH: usize = 4096;

/// Bytes of transactions in one batch: as much as a disk takes in well under a second, and what
/// a storage has to hold at once besides what waits.
const MAX_BATCH_BYTES: u64 = 16 << 20;

/// One thing to write.
pub(crate) enum Job {
    /// Content, and since when it has been on its way to be acknowledged.
    Store(StoreJob, Option<Instant>),
    /// A note whether an upstream has all of a CoValue.
    Track(UnsyncedUpdate),
}

/// Takes jobs for the writer task. Clones share the queue.
#[derive(Clone, Default)]
pub(crate) struct WriteQueue {
    shared: Arc<Shared>,
    deleted: Arc<Notify>,
}

#[derive(Default)]
struct Shared {
    /// Bounded by what peers may have in the machine's care at a time: their credit is given back
    /// when the content is durable.
    jobs: Mutex<VecDeque<Job>>,
    /// Jobs of the batch that is being written.
    in_batch: AtomicUsize,
    added: Notify,
}

impl WriteQueue {
    /// Adds a job. Stores are carried out in their order, and no note later than the stores that
    /// come after it.
    pub(crate) fn push(&self, job: Job) {
        self.jobs().push_back(job);
        self.shared.added.notify_one();
    }

    /// Notified of deletions that are stored, for whoever erases what they leave behind.
    pub(crate) fn deleted(&self) -> &Arc<Notify> {
        &self.deleted
    }

    /// Jobs that wait.
    pub(crate) fn len(&self) -> usize {
        self.jobs().len()
    }

    /// Jobs that wait, and those of the batch that is being written.
    pub(crate) fn waiting(&self) -> usize {
        self.len() + self.shared.in_batch.load(Ordering::Relaxed)
    }

    async fn next_batch(&self) -> Vec<Job> {
        loop {
            {
                let mut jobs = self.jobs();
                let batch = take_batch(&mut jobs);
                self.shared.in_batch.store(batch.len(), Ordering::Relaxed);
                if !batch.is_empty() {
                    return batch;
                }
            }
            self.shared.added.notified().await;
        }
    }

    fn jobs(&self) -> std::sync::MutexGuard<'_, VecDeque<Job>> {
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first jobs, as many as one batch may have; always one, if there is any.
fn take_batch(jobs: &mut VecDeque<Job>) -> Vec<Job> {
    let mut bytes = 0;
    let fits = |job: &&Job| {
        let had = bytes;
        bytes += match job {
            Job::Store(store, _) => store.sessions.iter().map(content_bytes).sum(),
            Job::Track(_) => 0,
        };
        had == 0 || bytes <= MAX_BATCH_BYTES
    };
    let count = jobs.iter().take(MAX_BATCH).take_while(fits).count();
    jobs.drain(..count).collect()
}

/// Writes what comes into the queue, until nobody listens to the events any longer.
pub(crate) async fn run(
    queue: WriteQueue,
    content: ContentStore,
    events: mpsc::Sender<Event>,
    counters: Arc<Counters>,
) {
    loop {
        let jobs = tokio::select! {
            jobs = queue.next_batch() => jobs,
            () = events.closed() => return,
        };
        let mut stores = Vec::new();
        let mut notes = Vec::new();
        for job in jobs {
            match job {
                Job::Store(store, began) => stores.push((store, began)),
                Job::Track(note) => notes.push(note),
            }
        }
        let storage = &**content.storage();
        if !notes.is_empty() {
            let tracked =
                persist(&queue, &events, &counters, || storage.track_unsynced(notes.clone()));
            if tracked.await.is_none() {
                return;
            }
        }
        let writes: Vec<Write> = stores.iter().flat_map(|(store, _)| writes_of(store)).collect();
        if writes.is_empty() {
            continue;
        }
        let started = Instant::now();
        let appending = persist(&queue, &events, &counters, || storage.append(writes.clone()));
        let outcomes = appending.instrument(debug_span!("append", stores = stores.len())).await;
        let Some(outcomes) = outcomes else { return };
        let runs = stores.iter().flat_map(|(store, _)| &store.sessions);
        counters.stored(stores.len(), runs.map(content_bytes).sum(), started.elapsed());
        let mut outcomes = outcomes.into_iter();
        for (job, began) in stores {
            if let Some(began) = began {
                counters.acknowledgement.time(began.elapsed());
            }
            let count = writes_of(&job).len();
            let result = stored(&job, outcomes.by_ref().take(count));
            content.stored(job.id, &job.sessions, result.conflict);
            if job.delete {
                queue.deleted.notify_one();
            }
            if events.send(Event::Stored(result)).await.is_err() {
                return;
            }
        }
    }
}

/// Writes, again and again until storage takes it. Meanwhile nothing is acknowledged, and peers
/// are held back by their credit. `None` if nobody waits any longer.
async fn persist<T, F>(
    queue: &WriteQueue,
    events: &mpsc::Sender<Event>,
    counters: &Counters,
    mut write: impl FnMut() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, StorageError>>,
{
    let mut failed = false;
    loop {
        match write().await {
            Ok(done) => {
                if failed {
                    counters.writing_fails.store(false, Ordering::Relaxed);
                    writing_works(counters);
                }
                return Some(done);
            }
            Err(error) => {
                failed = true;
                add(&counters.storage.write_retries, 1);
                counters.writing_fails.store(true, Ordering::Relaxed);
                writing_failed(&error, counters, queue);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = events.closed() => return None,
        }
    }
}

/// The writes that a job is made of.
fn writes_of(job: &StoreJob) -> Vec<Write> {
    let append = |sessions: Vec<SessionContent>| Write::Append {
        id: job.id,
        header: job.header.clone(),
        sessions,
    };
    if !job.delete {
        return vec![append(job.sessions.clone())];
    }
    let tombstones = job.sessions.iter().cloned();
    let header = job.header.is_some().then(|| append(Vec::new()));
    header
        .into_iter()
        .chain(tombstones.map(|session| Write::Tombstone { id: job.id, session }))
        .collect()
}

/// What the machine is told about a job.
fn stored(job: &StoreJob, outcomes: impl Iterator<Item = Outcome>) -> Stored {
    let mut durable = SessionCounts::new();
    let mut conflict = false;
    let mut sessions = job.sessions.iter();
    for outcome in outcomes {
        let Outcome::Applied(applied) = outcome else {
            conflict = true;
            continue;
        };
        // In this order, so that the end of the outcomes takes no session with it.
        for (outcome, run) in applied.into_iter().zip(sessions.by_ref()) {
            match outcome {
                SessionOutcome::Applied => durable.raise(&run.session, run.end()),
                // A batch that seemed to fail may have been applied after all.
                SessionOutcome::Conflict { stored } if stored >= run.end() => {
                    durable.raise(&run.session, run.end());
                }
                SessionOutcome::Conflict { .. } => conflict = true,
                // Overtaken by a tombstone of the same CoValue: nothing more is to be stored.
                SessionOutcome::Deleted => {}
            }
        }
    }
    Stored { id: job.id, durable, conflict }
}

#[cfg(test)]
mod tests {
    use downbeat_protocol::{CoValueId, Header, Ruleset, Signature, Transaction};

    use super::*;

    fn run(session: &str, bytes: usize) -> SessionContent {
        SessionContent {
            session: downbeat_protocol::SessionId::parse(session).unwrap(),
            after: 0,
            transactions: vec![Transaction::trusting(&"x".repeat(bytes), 0, None)],
            last_signature: Signature::from_bytes(&[0; 64]),
        }
    }

    fn job(sessions: Vec<SessionContent>, delete: bool) -> StoreJob {
        let header = Header::builder("comap", Ruleset::UnsafeAllowAll).build().unwrap();
        let id = CoValueId::parse("co_z1").unwrap();
        StoreJob { id, header: Some(header), sessions, delete, author: None }
    }

    #[test]
    fn every_session_of_a_deletion_that_brings_the_header_is_told_to_be_durable() {
        let runs = vec![run("co_z1_session_da$", 1), run("co_z1_session_db$", 1)];
        let job = job(runs.clone(), true);
        let writes = writes_of(&job);
        assert_eq!(writes.len(), 3);
        let applied = |count| Outcome::Applied(vec![SessionOutcome::Applied; count]);
        let stored = stored(&job, [applied(0), applied(1), applied(1)].into_iter());
        assert!(!stored.conflict);
        for run in runs {
            assert_eq!(stored.durable.get(&run.session), 1, "{}", run.session);
        }
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_has_one_job_at_least() {
        let size = usize::try_from(MAX_BATCH_BYTES).unwrap() * 2 / 3;
        let large = || Job::Store(job(vec![run("co_z1_session_z1", size)], false), None);
        let huge = Job::Store(job(vec![run("co_z1_session_z1", 2 * size)], false), None);
        let mut jobs: VecDeque<Job> = [large(), large(), huge].into();
        for _ in 0..3 {
            assert_eq!(take_batch(&mut jobs).len(), 1);
        }
        assert!(take_batch(&mut jobs).is_empty());
    }
}
