//! Content between the machine and the links, over a storage that answers at once.

use std::sync::Arc;

use downbeat_protocol::{CoValueId, SessionContent, SessionCounts};
use downbeat_storage::{MemoryStorage, Storage};
use downbeat_sync::{RecentContent, StoreJob, Wanted};

use crate::node::at_once;

/// Bytes of transactions that are read at a time where a whole log is walked through.
pub(crate) const READ_BYTES: usize = 1 << 20;

/// Reads content for those who send it.
pub(crate) struct ContentStore {
    storage: Arc<MemoryStorage>,
    recent: RecentContent,
}

impl ContentStore {
    /// Over a storage, keeping about `budget` bytes of durable content in memory besides all that
    /// is not durable yet.
    pub(crate) fn new(storage: Arc<MemoryStorage>, budget: u64) -> Self {
        Self { storage, recent: RecentContent::new(budget) }
    }

    /// The storage behind.
    pub(crate) fn storage(&self) -> &MemoryStorage {
        &self.storage
    }

    /// Keeps what is about to be stored, so that it can be read at once.
    pub(crate) fn add(&mut self, job: &StoreJob) {
        self.recent.add(job);
    }

    /// What was added can be read from storage from now on. In a conflict storage has something
    /// else, and what was added is forgotten.
    pub(crate) fn stored(&mut self, id: CoValueId, sessions: &[SessionContent], conflict: bool) {
        self.recent.stored(id, sessions, conflict);
    }

    /// What is wanted: at least one run of it, if it can be read.
    pub(crate) fn read(&self, wanted: &Wanted<'_>) -> Vec<SessionContent> {
        self.recent.read(wanted).unwrap_or_else(|| {
            let Wanted { id, have, max_bytes, .. } = *wanted;
            let runs = at_once(self.storage.read(id, have, max_bytes)).unwrap_or_default();
            self.recent.go_on(wanted, runs)
        })
    }

    /// Runs of one session from a position on, up to the count in `until`, which lists nothing
    /// else.
    pub(crate) fn read_session(
        &self,
        id: CoValueId,
        until: &SessionCounts,
        from: u64,
    ) -> Vec<SessionContent> {
        let stored = at_once(self.storage.load(id)).ok().flatten();
        let mut have = stored.map_or_else(SessionCounts::new, |stored| stored.counts());
        for (session, _) in until {
            have.set(session, from);
        }
        self.read(&Wanted { id, have: &have, until, max_bytes: READ_BYTES })
    }
}
