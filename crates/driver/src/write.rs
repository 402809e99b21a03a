//! Writing to storage: the machine's `Store` and `Track` actions.

use downbeat_protocol::{CoValueId, SessionContent, SessionCounts};
use downbeat_storage::{
    BatchLimits, Outcome, SessionOutcome, Storage, StorageError, Unsynced, UnsyncedUpdate,
    UpstreamName, Write,
};
use downbeat_sync::{StoreJob, Stored};

use crate::bugs::{Bugs, DriverBug};
use crate::content::ContentStore;

/// Limits of one batch. 4,096 jobs share the cost of one flush, and the first of them does not wait
/// long for the last. A disk takes 16 MiB in well under a second; it is also the memory that a
/// storage needs for a batch.
pub const WRITE_LIMITS: BatchLimits = BatchLimits { jobs: 4096, bytes: 16 << 20 };

/// Something to write to storage, with a value of the runtime's own for each store.
#[derive(Debug)]
pub enum WriteJob<T> {
    /// A `Store` action.
    Store(StoreJob, T),
    /// A `Track` action.
    Track(UnsyncedUpdate),
}

/// Jobs that are written together.
///
/// Call [`Self::track`] first, then [`Self::append`], each again until storage takes it, and report
/// what [`Self::finish`] returns. This order makes sure that no CoValue is stored without the note
/// that an upstream lacks it.
#[derive(Debug)]
pub struct WriteBatch<T> {
    notes: Vec<UnsyncedUpdate>,
    stores: Vec<(StoreJob, T)>,
}

/// A job whose outcome is known.
#[derive(Debug)]
pub struct Written<T> {
    /// The job.
    pub job: StoreJob,
    /// The event for the machine.
    pub stored: Stored,
    /// The runtime's own value.
    pub context: T,
}

impl<T> WriteJob<T> {
    /// The job of a `Track` action.
    pub fn track(id: CoValueId, upstream: UpstreamName, synced: bool) -> Self {
        Self::Track(UnsyncedUpdate { entry: Unsynced { id, upstream }, synced })
    }

    /// Bytes of transactions in the job.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Store(job, _) => bytes_of(job),
            Self::Track(_) => 0,
        }
    }
}

impl<T> WriteBatch<T> {
    /// Makes a batch of these jobs.
    pub fn new(jobs: impl IntoIterator<Item = WriteJob<T>>) -> Self {
        let mut batch = Self { notes: Vec::new(), stores: Vec::new() };
        for job in jobs {
            match job {
                WriteJob::Store(job, context) => batch.stores.push((job, context)),
                WriteJob::Track(note) => batch.notes.push(note),
            }
        }
        batch
    }

    /// The stores, in their order.
    pub fn stores(&self) -> impl ExactSizeIterator<Item = &StoreJob> {
        self.stores.iter().map(|(job, _)| job)
    }

    /// Bytes of transactions in the batch.
    pub fn bytes(&self) -> u64 {
        self.stores().map(bytes_of).sum()
    }

    /// Writes the notes about upstreams.
    pub async fn track(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        if self.notes.is_empty() {
            return Ok(());
        }
        storage.track_unsynced(self.notes.clone()).await
    }

    /// Writes the stores with one call to storage. Returns the outcomes for [`Self::finish`].
    pub async fn append(&self, content: &ContentStore) -> Result<Vec<Outcome>, StorageError> {
        let writes: Vec<Write> =
            self.stores().flat_map(|job| writes_of(job, content.bugs)).collect();
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        content.storage().append(writes).await
    }

    /// Assigns the outcomes to the jobs, and tells the content store about each.
    pub fn finish(
        self,
        content: &ContentStore,
        mut outcomes: Vec<Outcome>,
    ) -> impl Iterator<Item = Written<T>> {
        if content.bugs.has(DriverBug::SwapOutcomes) && outcomes.len() > 1 {
            outcomes.swap(0, 1);
        }
        let mut outcomes = outcomes.into_iter();
        self.stores.into_iter().map(move |(job, context)| {
            let of_job = outcomes.by_ref().take(write_count(&job));
            let stored = stored(&job, of_job, content.bugs);
            content.stored(job.id, &job.sessions, stored.conflict);
            Written { job, stored, context }
        })
    }
}

fn bytes_of(job: &StoreJob) -> u64 {
    job.sessions.iter().map(SessionContent::json_len).sum()
}

/// The writes of a job: one, or for a deletion one for each session and one for a new header.
fn writes_of(job: &StoreJob, bugs: Bugs) -> Vec<Write> {
    let append = |sessions: Vec<SessionContent>| Write::Append {
        id: job.id,
        header: job.header.clone(),
        sessions,
    };
    if !job.delete {
        return vec![append(job.sessions.clone())];
    }
    let tombstone = |session: &SessionContent| {
        let session = session.clone();
        if bugs.has(DriverBug::DropTombstone) {
            append(vec![session])
        } else {
            Write::Tombstone { id: job.id, session }
        }
    };
    let header = job.header.is_some().then(|| append(Vec::new()));
    header.into_iter().chain(job.sessions.iter().map(tombstone)).collect()
}

/// The number of writes that [`writes_of`] makes.
fn write_count(job: &StoreJob) -> usize {
    if job.delete { usize::from(job.header.is_some()) + job.sessions.len() } else { 1 }
}

/// Makes the event for the machine out of a job and the outcomes of its writes.
fn stored(job: &StoreJob, outcomes: impl Iterator<Item = Outcome>, bugs: Bugs) -> Stored {
    let mut durable = SessionCounts::new();
    let mut conflict = false;
    let mut sessions = job.sessions.iter();
    for outcome in outcomes {
        let Outcome::Applied(applied) = outcome else {
            conflict = true;
            continue;
        };
        // In this order, because `zip` must not take a run after the last outcome.
        for (outcome, run) in applied.into_iter().zip(sessions.by_ref()) {
            let end = run.end() + u64::from(bugs.has(DriverBug::OvercountDurable));
            match outcome {
                SessionOutcome::Applied => durable.raise(&run.session, end),
                // A batch that seemed to fail may have been applied after all.
                SessionOutcome::Conflict { stored } if stored >= run.end() => {
                    durable.raise(&run.session, end);
                }
                SessionOutcome::Conflict { .. } if bugs.has(DriverBug::IgnoreConflict) => {
                    durable.raise(&run.session, end);
                }
                SessionOutcome::Conflict { .. } => conflict = true,
                // A tombstone of the same CoValue came first: nothing more has to be stored.
                SessionOutcome::Deleted => {}
            }
        }
    }
    Stored { id: job.id, durable, conflict }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use downbeat_protocol::{Header, Ruleset, SessionId, Signature, Transaction};
    use downbeat_storage::MemoryStorage;

    use super::*;
    use crate::block_on;

    fn run(session: &str, after: u64) -> SessionContent {
        SessionContent {
            session: SessionId::parse(session).unwrap(),
            after,
            transactions: vec![Transaction::trusting("[]", 0, None)],
            last_signature: Signature::from_bytes(&[0; 64]),
        }
    }

    fn job(sessions: Vec<SessionContent>, delete: bool) -> StoreJob {
        let header = Header::builder("comap", Ruleset::UnsafeAllowAll).build().unwrap();
        let id = CoValueId::parse("co_z1").unwrap();
        StoreJob { id, header: Some(header), sessions, delete, author: None }
    }

    /// Writes these jobs to a new storage.
    fn write(jobs: Vec<StoreJob>) -> Vec<Stored> {
        let content = ContentStore::new(Arc::new(MemoryStorage::new()), 0);
        let batch = WriteBatch::new(jobs.into_iter().map(|job| WriteJob::Store(job, ())));
        let outcomes = block_on(batch.append(&content)).unwrap();
        batch.finish(&content, outcomes).map(|written| written.stored).collect()
    }

    #[test]
    fn every_session_of_a_deletion_that_brings_the_header_is_told_to_be_durable() {
        let runs = vec![run("co_z1_session_da$", 0), run("co_z1_session_db$", 0)];
        let stored = write(vec![job(runs.clone(), true)]);
        assert!(!stored[0].conflict);
        for run in runs {
            assert_eq!(stored[0].durable.get(&run.session), 1, "{}", run.session);
        }
    }

    #[test]
    fn as_many_outcomes_are_taken_as_there_are_writes() {
        let runs = vec![run("co_z1_session_da$", 0), run("co_z1_session_db$", 0)];
        for delete in [false, true] {
            let with_header = job(runs.clone(), delete);
            let without = StoreJob { header: None, ..job(runs.clone(), delete) };
            for job in [with_header, without, job(Vec::new(), delete)] {
                assert_eq!(writes_of(&job, Bugs::default()).len(), write_count(&job), "{job:?}");
            }
        }
    }

    #[test]
    fn each_job_of_a_batch_gets_its_own_outcome() {
        let session = "co_z1_session_z1";
        let gap = StoreJob { header: None, ..job(vec![run(session, 5)], false) };
        let jobs = vec![job(vec![run(session, 0)], false), gap, job(vec![run(session, 1)], false)];
        let stored = write(jobs);
        assert_eq!(
            stored.iter().map(|stored| stored.conflict).collect::<Vec<_>>(),
            [false, true, false]
        );
        assert_eq!(stored[2].durable.get(&SessionId::parse(session).unwrap()), 2);
    }
}
