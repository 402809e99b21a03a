//! Content as it can be read: recent content from memory, everything else from storage.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use downbeat_protocol::{CoValueId, KnownState, SessionContent};
use downbeat_storage::{Storage, StorageError};
use downbeat_sync::StoreJob;

use crate::bugs::Bugs;
#[cfg(feature = "faults")]
use crate::bugs::DriverBug;
use crate::chunker::ReadRequest;
use crate::recent::RecentContent;

/// Bytes of transactions in one read where a whole log is read.
pub(crate) const READ_BYTES: usize = 1 << 20;

/// Reads content from a storage and from the [`RecentContent`] in front of it.
///
/// Clones share the storage and the recent content.
#[derive(Clone)]
pub struct ContentStore {
    storage: Arc<dyn Storage>,
    recent: Arc<Mutex<RecentContent>>,
    pub(crate) bugs: Bugs,
}

impl ContentStore {
    /// Creates a content store that keeps about `budget` bytes of durable content in memory.
    /// Content that is not durable yet is always kept in memory.
    pub fn new(storage: Arc<dyn Storage>, budget: u64) -> Self {
        let recent = Arc::new(Mutex::new(RecentContent::new(budget)));
        Self { storage, recent, bugs: Bugs::default() }
    }

    /// Keeps the content of a job in memory. From now on it can be read.
    pub fn add(&self, job: &StoreJob) {
        self.recent().add(job);
    }

    /// Marks runs as stored. After a conflict, the storage has other content, so that the runs are
    /// dropped from memory.
    pub fn stored(&self, id: CoValueId, sessions: &[SessionContent], conflict: bool) {
        self.recent().stored(id, sessions, conflict);
    }

    /// Reads at least one of the requested runs, if there is any.
    pub async fn read(
        &self,
        request: &ReadRequest<'_>,
    ) -> Result<Vec<SessionContent>, StorageError> {
        let recent = self.recent().read(request);
        if let Some(runs) = recent {
            return Ok(runs);
        }
        let runs = self.storage.read(request.id, request.have, request.max_bytes).await?;
        Ok(self.recent().append_recent(request, runs))
    }

    /// Reads for several requests with one call to storage, and about `max_bytes` in total. May
    /// return fewer answers than requests; the answers belong to the first requests.
    pub async fn read_many(
        &self,
        requests: &[ReadRequest<'_>],
        max_bytes: usize,
    ) -> Vec<Result<Vec<SessionContent>, StorageError>> {
        let mut from_storage = Vec::new();
        let mut room = max_bytes;
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            let recent = self.recent().read(request);
            match &recent {
                Some(runs) => room = room.saturating_sub(bytes_of(runs)),
                None => from_storage.push(KnownState {
                    id: request.id,
                    header: true,
                    sessions: request.have.clone(),
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
        let complete = |(recent, request)| match recent {
            Some(runs) => Some(Ok(runs)),
            None => Some(stored.next()?.map(|runs| self.recent().append_recent(request, runs))),
        };
        answers.into_iter().zip(requests).map_while(complete).collect()
    }

    /// Bytes of content in memory.
    pub fn recent_bytes(&self) -> u64 {
        self.recent().bytes()
    }

    /// The storage that this reads from.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Injects a bug into everything that is carried out over this content store from now on.
    #[cfg(feature = "faults")]
    #[cfg_attr(docsrs, doc(cfg(feature = "faults")))]
    pub fn inject_bug(&mut self, bug: Option<DriverBug>) {
        self.bugs = Bugs::new(bug);
    }

    fn recent(&self) -> MutexGuard<'_, RecentContent> {
        // It is consistent between any two statements that could panic.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes_of(runs: &[SessionContent]) -> usize {
    usize::try_from(runs.iter().map(SessionContent::json_len).sum::<u64>()).unwrap_or(usize::MAX)
}
