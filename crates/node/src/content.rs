//! Content between the machine and the connections: what is in memory, and what has to be read from
//! storage.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use downbeat_protocol::{CoValueId, KnownState, SessionContent, SessionCounts};
use downbeat_storage::{Storage, StorageError};
use downbeat_sync::{RecentContent, StoreJob, Wanted, content_bytes};

/// Bytes of transactions that are read at a time where a whole log is walked through.
pub(crate) const READ_BYTES: usize = 1 << 20;

/// Reads content for those who send it. Clones share everything.
#[derive(Clone)]
pub(crate) struct ContentStore {
    storage: Arc<dyn Storage>,
    recent: Arc<Mutex<RecentContent>>,
}

impl ContentStore {
    /// Over a storage, keeping about `budget` bytes of durable content in memory besides all that
    /// is not durable yet.
    pub(crate) fn new(storage: Arc<dyn Storage>, budget: u64) -> Self {
        Self { storage, recent: Arc::new(Mutex::new(RecentContent::new(budget))) }
    }

    /// Keeps what is about to be stored, so that it can be read at once.
    pub(crate) fn add(&self, job: &StoreJob) {
        self.recent().add(job);
    }

    /// What was added can be read from storage from now on. In a conflict storage has something
    /// else, and what was added is forgotten.
    pub(crate) fn stored(&self, id: CoValueId, sessions: &[SessionContent], conflict: bool) {
        self.recent().stored(id, sessions, conflict);
    }

    /// What is wanted: at least one run of it, if it can be read.
    pub(crate) async fn read(
        &self,
        wanted: &Wanted<'_>,
    ) -> Result<Vec<SessionContent>, StorageError> {
        let recent = self.recent().read(wanted);
        if let Some(runs) = recent {
            return Ok(runs);
        }
        let runs = self.storage.read(wanted.id, wanted.have, wanted.max_bytes).await?;
        Ok(self.recent().go_on(wanted, runs))
    }

    /// What [`Self::read`] gives for each of these, and not much more than `max_bytes` of all of
    /// them. There may be fewer answers than there is wanted.
    pub(crate) async fn read_many(
        &self,
        wanted: &[Wanted<'_>],
        max_bytes: usize,
    ) -> Vec<Result<Vec<SessionContent>, StorageError>> {
        let mut from_storage = Vec::new();
        let mut room = max_bytes;
        let mut answers = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let recent = self.recent().read(wanted);
            match &recent {
                Some(runs) => room = room.saturating_sub(bytes_of(runs)),
                None => from_storage.push(KnownState {
                    id: wanted.id,
                    header: true,
                    sessions: wanted.have.clone(),
                }),
            }
            answers.push(recent);
            if room == 0 {
                break;
            }
        }
        let stored = if from_storage.is_empty() {
            Vec::new()
        } else {
            self.storage.read_many(from_storage, room).await
        };
        let mut stored = stored.into_iter();
        let complete = |(recent, wanted)| match recent {
            Some(runs) => Some(Ok(runs)),
            None => Some(stored.next()?.map(|runs| self.recent().go_on(wanted, runs))),
        };
        answers.into_iter().zip(wanted).map_while(complete).collect()
    }

    /// Runs of one session from a position on, up to the count in `until`, which lists nothing
    /// else.
    pub(crate) async fn read_session(
        &self,
        id: CoValueId,
        until: &SessionCounts,
        from: u64,
    ) -> Result<Vec<SessionContent>, StorageError> {
        // The other sessions are passed over by saying that they are known.
        let mut have = match self.storage.load(id).await? {
            Some(stored) => stored.counts(),
            None => SessionCounts::new(),
        };
        for (session, _) in until {
            have.set(session, from);
        }
        self.read(&Wanted { id, have: &have, until, max_bytes: READ_BYTES }).await
    }

    /// Bytes of content in memory.
    pub(crate) fn recent_bytes(&self) -> u64 {
        self.recent().bytes()
    }

    /// The storage behind.
    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    fn recent(&self) -> MutexGuard<'_, RecentContent> {
        // It is consistent between any two statements that could panic.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes_of(runs: &[SessionContent]) -> usize {
    usize::try_from(runs.iter().map(content_bytes).sum::<u64>()).unwrap_or(usize::MAX)
}
