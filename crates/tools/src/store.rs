//! A store as the tools use it: its methods block, and reading continues after damage.

use std::sync::Arc;

use downbeat_protocol::{CoValueId, SessionContent, SessionCounts, SessionId, Signature};
use downbeat_storage::{
    Damage, Outcome, Storage, StorageError, StoreStats, StoredCoValue, Unsynced, UnsyncedUpdate,
    Write,
};
use tokio::runtime::Handle;

/// Bytes of transaction JSON that one read returns, so that memory does not grow with the size of a
/// CoValue. A few checkpoints, so that the cost of a call is shared by many transactions.
const READ_BYTES: usize = 1 << 20;

/// The limit for reads near damage. It is smaller than any extension, so a read returns one.
const ONE_EXTENSION: usize = 1;

/// A store whose methods block. Clones share the same store.
///
/// The threads of the tools wait for disks and compute signatures. They have no other work while
/// they wait, so blocking is the simplest way.
#[derive(Clone)]
pub struct Store {
    storage: Arc<dyn Storage>,
    runtime: Handle,
}

impl Store {
    /// Wraps a storage. The runtime drives its futures; it must be multi-threaded, and must not
    /// run the thread that calls this store.
    pub fn new(storage: Arc<dyn Storage>, runtime: Handle) -> Self {
        Self { storage, runtime }
    }

    /// See [`Storage::load`].
    pub fn load(&self, id: CoValueId) -> Result<Option<StoredCoValue>, StorageError> {
        self.runtime.block_on(self.storage.load(id))
    }

    /// See [`Storage::append`].
    pub(crate) fn append(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StorageError> {
        self.runtime.block_on(self.storage.append(batch))
    }

    /// See [`Storage::list`].
    pub(crate) fn list(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        self.runtime.block_on(self.storage.list(after, limit))
    }

    /// See [`Storage::count`].
    pub(crate) fn count(&self) -> Result<u64, StorageError> {
        self.runtime.block_on(self.storage.count())
    }

    /// The size of the store, from its totals, without a scan. See [`Storage::stats`].
    pub fn stats(&self) -> Result<StoreStats, StorageError> {
        self.runtime.block_on(self.storage.stats())
    }

    /// See [`Storage::track_unsynced`].
    pub(crate) fn track_unsynced(&self, updates: Vec<UnsyncedUpdate>) -> Result<(), StorageError> {
        self.runtime.block_on(self.storage.track_unsynced(updates))
    }

    /// See [`Storage::unsynced`].
    pub(crate) fn unsynced(
        &self,
        after: Option<Unsynced>,
        limit: usize,
    ) -> Result<Vec<Unsynced>, StorageError> {
        self.runtime.block_on(self.storage.unsynced(after, limit))
    }

    /// Erases all content that tombstones hide.
    pub(crate) fn erase_hidden(&self) -> Result<(), StorageError> {
        /// Ids per list request.
        const PAGE: usize = 4_096;

        self.runtime.block_on(async {
            let mut after = None;
            loop {
                let ids = self.storage.erasable(after, PAGE).await?;
                let Some(last) = ids.last() else { return Ok(()) };
                after = Some(*last);
                for id in ids {
                    while self.storage.erase(id).await?.more {}
                }
            }
        })
    }

    /// See [`Storage::close`].
    pub fn close(&self) -> Result<(), StorageError> {
        self.runtime.block_on(self.storage.close())
    }

    /// Reads the transactions of a CoValue beyond these counts.
    pub(crate) fn read(&self, id: CoValueId, have: SessionCounts) -> Reading<'_> {
        let (max_bytes, extensions, done) = (READ_BYTES, false, false);
        Reading { store: self, id, have, max_bytes, extensions, done }
    }

    /// Reads the extensions of a CoValue beyond these counts, as they were appended.
    pub(crate) fn read_extensions(&self, id: CoValueId, have: SessionCounts) -> Reading<'_> {
        Reading { extensions: true, ..self.read(id, have) }
    }

    /// The signature of the first `count` transactions of a session, if an extension ends there.
    /// `stored` is what the store has of the CoValue.
    pub(crate) fn signature_at(
        &self,
        id: CoValueId,
        stored: &StoredCoValue,
        (session, count): (&SessionId, u64),
    ) -> Result<Option<Signature>, StorageError> {
        let mut have = stored.counts();
        have.set(session, count.saturating_sub(1));
        let read = self.storage.read_extensions(id, &have, ONE_EXTENSION);
        let extensions = self.runtime.block_on(read)?;
        let last = extensions.first().filter(|extension| extension.end() == count);
        Ok(last.map(|extension| extension.last_signature))
    }

    /// Reads one session from its start.
    pub(crate) fn read_session(
        &self,
        id: CoValueId,
        session: &SessionId,
    ) -> Result<Reading<'_>, StorageError> {
        let mut have = self.load(id)?.map(|stored| stored.counts()).unwrap_or_default();
        have.set(session, 0);
        Ok(self.read(id, have))
    }

    /// Reads one session beyond a count, one stored extension at a time.
    pub(crate) fn read_steps(
        &self,
        id: CoValueId,
        session: &SessionId,
        count: u64,
    ) -> Result<Reading<'_>, StorageError> {
        let mut reading = self.read_session(id, session)?;
        reading.have.set(session, count);
        reading.max_bytes = ONE_EXTENSION;
        Ok(reading)
    }
}

/// Reads a CoValue in bounded steps, and skips damaged sessions.
pub(crate) struct Reading<'a> {
    store: &'a Store,
    id: CoValueId,
    have: SessionCounts,
    max_bytes: usize,
    /// Whether extensions are read as they are, instead of merged runs.
    extensions: bool,
    done: bool,
}

/// One step of a [`Reading`].
pub(crate) enum Step {
    /// Runs that follow those of the last step.
    Runs(Vec<SessionContent>),
    /// Data that cannot be read. If it belongs to a session, the other sessions are still read;
    /// otherwise reading ends here.
    Damage(Damage),
}

impl Reading<'_> {
    /// The next runs, or damage, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Step>, StorageError> {
        while !self.done {
            match self.read() {
                Ok(runs) if runs.is_empty() => self.done = true,
                Ok(runs) => {
                    for run in &runs {
                        self.have.raise(&run.session, run.end());
                    }
                    return Ok(Some(Step::Runs(runs)));
                }
                // Extensions before the damage can be read one by one.
                Err(StorageError::Corrupt(_)) if self.max_bytes > ONE_EXTENSION => {
                    self.max_bytes = ONE_EXTENSION;
                }
                Err(StorageError::Corrupt(damage)) => {
                    self.max_bytes = READ_BYTES;
                    self.done = !self.step_over(&damage);
                    return Ok(Some(Step::Damage(damage)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn read(&self) -> Result<Vec<SessionContent>, StorageError> {
        let Self { store: Store { storage, runtime }, id, have, max_bytes, .. } = self;
        if self.extensions {
            runtime.block_on(storage.read_extensions(*id, have, *max_bytes))
        } else {
            runtime.block_on(storage.read(*id, have, *max_bytes))
        }
    }

    /// Excludes a session from further reads.
    pub(crate) fn skip(&mut self, session: &SessionId) {
        self.have.set(session, u64::MAX);
    }

    /// Excludes a damaged session from further reads. Returns whether it was included before.
    fn step_over(&mut self, damage: &Damage) -> bool {
        let Some(session) = damage.session() else { return false };
        let is_new = self.have.get(session) != u64::MAX;
        self.have.set(session, u64::MAX);
        is_new
    }
}
