//! The store: hands writes to the writer thread and reads to the reader threads.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use downbeat_protocol::{CoValueId, KnownState, SessionContent, SessionCounts};
use downbeat_storage::{
    Compacted, Erased, Outcome, ReadExtent, ReaderThreads, Runs, Storage, StorageError, StoreStats,
    StoredCoValue, Unsynced, UnsyncedUpdate, Write, WriterThread, read_each,
};

use tracing::error;

use crate::compact::{compact, compact_garbage};
use crate::open;
use crate::options::SledOptions;
use crate::read;
use crate::shared::Shared;
use crate::space;
use crate::tree::Tree;
use crate::writer::Writer;

/// Threads that read, most of them asleep. More would only wait for the same disk.
const READERS: usize = 8;

/// A store in a directory, on sled.
///
/// Works on any tokio runtime, and reads and writes on threads of its own.
///
/// Dropping the store closes it like [`Storage::close`], but blocks the thread meanwhile, and only
/// logs errors.
#[derive(Debug)]
pub struct SledStorage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    readers: ReaderThreads<Arc<Shared>>,
    writer: WriterThread<Writer>,
}

impl SledStorage {
    /// Opens the store in a directory. An empty or missing directory becomes a new store. Blocks
    /// while it reads.
    ///
    /// # Errors
    ///
    /// - [`StorageError::NotAStore`] if the path holds something else,
    /// - [`StorageError::Locked`] if another process has the store open,
    /// - [`StorageError::NewerFormat`] if a newer version of this crate wrote it,
    /// - [`StorageError::Corrupt`] if its files are damaged,
    /// - [`StorageError::Io`] if the directory cannot be read or written.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, StorageError> {
        Self::open_with(dir, SledOptions::default())
    }

    /// [`Self::open`] with options.
    pub fn open_with(dir: impl AsRef<Path>, options: SledOptions) -> Result<Self, StorageError> {
        let dir = dir.as_ref();
        let mut reserve = space::reserve(dir);
        let mut opened = reserve.open_with(|| open::open(dir, &options))?;
        if options.compact_garbage {
            opened = compact_garbage(dir, opened, &options)?;
        }
        let shared = Arc::new(Shared::new(opened.tree.clone()));
        let source = Arc::clone(&shared);
        let readers = ReaderThreads::start(READERS, move || Arc::clone(&source))?;
        let writer = Writer::new(opened, reserve, Arc::clone(&shared), options);
        let writer = WriterThread::start("downbeat-sled", writer)?;
        Ok(Self { inner: Arc::new(Inner { shared, readers, writer }) })
    }

    /// Whether a directory holds a sled store, or files of a damaged or unfinished one. A directory
    /// that is missing holds none.
    ///
    /// # Errors
    ///
    /// [`StorageError::Io`] if the directory cannot be read.
    pub fn is_in(dir: impl AsRef<Path>) -> Result<bool, StorageError> {
        open::has_files(dir.as_ref())
    }

    /// Compacts the store in a directory: copies its records into a new log, which takes the place
    /// of the old one. The store must not be open. Blocks meanwhile.
    ///
    /// `progress` gets the number of CoValues that are done, and of all.
    ///
    /// A kill at any time leaves the old log or the new one. The next opening, also of a store that
    /// was compacted to the end, removes what is left of the other.
    ///
    /// # Errors
    ///
    /// Those of [`Self::open`], and [`StorageError::Full`] if there is no room for the new log. The
    /// old log stays as it was.
    pub fn compact(
        dir: impl AsRef<Path>,
        progress: impl FnMut(u64, u64),
    ) -> Result<Compacted, StorageError> {
        let dir = dir.as_ref();
        let mut progress = progress;
        space::reserve(dir).open_with(|| compact(dir, &mut progress))
    }

    /// Reads on one of the reader threads, about as much as this many CoValues.
    async fn read_with<T: Send + 'static>(
        &self,
        co_values: usize,
        read: impl FnOnce(&Tree) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let extent = ReadExtent::CoValues(co_values);
        self.inner.readers.run(extent, move |shared| read(&shared.tree()?)).await?
    }
}

#[async_trait]
impl Storage for SledStorage {
    async fn append(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StorageError> {
        let bytes = batch.iter().map(Write::approximate_bytes).sum();
        self.inner.writer.run(bytes, move |writer| writer.append(&batch, bytes)).await
    }

    async fn load(&self, id: CoValueId) -> Result<Option<StoredCoValue>, StorageError> {
        self.read_with(1, move |tree| read::load(tree, id)).await
    }

    async fn load_many(
        &self,
        ids: Vec<CoValueId>,
    ) -> Vec<Result<Option<StoredCoValue>, StorageError>> {
        let (count, extent) = (ids.len(), ReadExtent::CoValues(ids.len()));
        let load = |shared: &Shared, id| read::load(&shared.tree()?, id);
        let answers = self
            .inner
            .readers
            .run(extent, move |shared| ids.into_iter().map(|id| load(shared, id)).collect());
        answers.await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn read(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError> {
        let have = have.clone();
        let runs = Runs::new(max_bytes);
        self.read_with(1, move |tree| read::read(tree, id, &have, &runs)).await
    }

    async fn read_extensions(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError> {
        let have = have.clone();
        let runs = Runs::unmerged(max_bytes);
        self.read_with(1, move |tree| read::read(tree, id, &have, &runs)).await
    }

    async fn read_many(
        &self,
        have: Vec<KnownState>,
        max_bytes: usize,
    ) -> Vec<Result<Vec<SessionContent>, StorageError>> {
        let (count, extent) = (have.len(), ReadExtent::CoValues(have.len()));
        let answers = self.inner.readers.run(extent, move |shared| {
            read_each(have, max_bytes, |KnownState { id, sessions, .. }, budget| {
                read::read(&shared.tree()?, id, &sessions, &Runs::new(budget))
            })
        });
        answers.await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn list(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        self.read_with(limit, move |tree| read::list(tree, after, limit)).await
    }

    async fn count(&self) -> Result<u64, StorageError> {
        self.read_with(1, |tree| open::totals(tree).map(|totals| totals.co_values)).await
    }

    async fn erase(&self, id: CoValueId) -> Result<Erased, StorageError> {
        self.inner.writer.run(0, move |writer| writer.erase(id)).await
    }

    async fn erasable(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        self.read_with(limit, move |tree| read::erasable(tree, after, limit)).await
    }

    async fn track_unsynced(&self, updates: Vec<UnsyncedUpdate>) -> Result<(), StorageError> {
        let bytes = size_of_val(updates.as_slice());
        self.inner.writer.run(bytes, move |writer| writer.track(&updates, bytes)).await
    }

    async fn unsynced(
        &self,
        after: Option<Unsynced>,
        limit: usize,
    ) -> Result<Vec<Unsynced>, StorageError> {
        self.read_with(limit, move |tree| read::unsynced(tree, after.as_ref(), limit)).await
    }

    async fn stats(&self) -> Result<StoreStats, StorageError> {
        self.read_with(1, |tree| Ok(open::totals(tree)?.stats(Some(tree.disk_bytes()?)))).await
    }

    async fn check(&self) -> Result<(), StorageError> {
        self.inner.readers.run(ReadExtent::CoValues(1), |shared| shared.check()).await?
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.inner.writer.stop();
        let inner = Arc::clone(&self.inner);
        let closing = tokio::task::spawn_blocking(move || inner.close());
        closing.await.unwrap_or(Err(StorageError::Closed))
    }
}

impl Inner {
    /// Ends all reads and writes, flushes, and closes the tree. Blocks meanwhile.
    fn close(&self) -> Result<(), StorageError> {
        self.writer.stop();
        self.readers.close();
        let result = self.writer.close();
        self.shared.set_failed(StorageError::Closed);
        result
    }
}

impl Drop for SledStorage {
    fn drop(&mut self) {
        if let Err(error) = self.inner.close() {
            error!(%error, "cannot close the store");
        }
    }
}
