//! The storage writer: everything that waits when storage is free goes in one batch.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use downbeat_protocol::{SessionContent, SessionCounts};
use downbeat_storage::{Outcome, SessionOutcome, StorageError, UnsyncedUpdate, Write};
use downbeat_sync::{Event, StoreJob, Stored};
use tokio::sync::{Notify, mpsc};
use tracing::{error, info};

use crate::content::ContentStore;

/// Stores in one batch. Enough for one flush to be spread thin, and few enough that the first of
/// them does not wait long for the last.
const MAX_BATCH: usize = 4096;

/// How long to wait before a storage that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// One thing to write.
pub(crate) enum Job {
    /// Content.
    Store(StoreJob),
    /// A note whether an upstream has all of a CoValue.
    Track(UnsyncedUpdate),
}

/// Takes jobs for the writer task. Clones share the queue.
#[derive(Clone, Default)]
pub(crate) struct WriteQueue {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Bounded by what peers may have in the machine's care at a time: their credit is given back
    /// when the content is durable.
    jobs: Mutex<VecDeque<Job>>,
    added: Notify,
}

impl WriteQueue {
    /// Adds a job. Stores are carried out in their order, and no note later than the stores that
    /// come after it.
    pub(crate) fn push(&self, job: Job) {
        self.jobs().push_back(job);
        self.shared.added.notify_one();
    }

    async fn next_batch(&self) -> Vec<Job> {
        loop {
            {
                let mut jobs = self.jobs();
                if !jobs.is_empty() {
                    let count = jobs.len().min(MAX_BATCH);
                    return jobs.drain(..count).collect();
                }
            }
            self.shared.added.notified().await;
        }
    }

    fn jobs(&self) -> std::sync::MutexGuard<'_, VecDeque<Job>> {
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what comes into the queue, until nobody listens to the events any longer.
pub(crate) async fn run(queue: WriteQueue, content: ContentStore, events: mpsc::Sender<Event>) {
    loop {
        let jobs = tokio::select! {
            jobs = queue.next_batch() => jobs,
            () = events.closed() => return,
        };
        let mut stores = Vec::new();
        let mut notes = Vec::new();
        for job in jobs {
            match job {
                Job::Store(store) => stores.push(store),
                Job::Track(note) => notes.push(note),
            }
        }
        let storage = &**content.storage();
        if !notes.is_empty() {
            let noted = persist(&events, || storage.track_unsynced(notes.clone())).await;
            if noted.is_none() {
                return;
            }
        }
        let writes: Vec<Write> = stores.iter().flat_map(writes_of).collect();
        if writes.is_empty() {
            continue;
        }
        let outcomes = persist(&events, || storage.append(writes.clone())).await;
        let Some(outcomes) = outcomes else { return };
        let mut outcomes = outcomes.into_iter();
        for job in stores {
            let count = writes_of(&job).len();
            let stored = stored(&job, outcomes.by_ref().take(count));
            content.stored(job.id, &job.sessions);
            if events.send(Event::Stored(stored)).await.is_err() {
                return;
            }
        }
    }
}

/// Writes, again and again until storage takes it. Meanwhile nothing is acknowledged, and peers
/// are held back by their credit. `None` if nobody waits any longer.
async fn persist<T, F>(events: &mpsc::Sender<Event>, mut write: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Result<T, StorageError>>,
{
    let mut failures = 0_u32;
    loop {
        match write().await {
            Ok(done) => {
                if failures > 0 {
                    info!(failures, "storage takes content again");
                }
                return Some(done);
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                error!(%error, failures, "storage did not take content; trying again");
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
        for (run, outcome) in sessions.by_ref().zip(applied) {
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
