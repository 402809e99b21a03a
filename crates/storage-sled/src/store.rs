//! The store: hands writes to the writer thread and reads to the threads that read.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use downbeat_protocol::{CoValueId, Header, KnownState, SessionContent, SessionCounts};
use downbeat_storage::{
    Erased, Extent, Outcome, Readers, Stats, Storage, StorageError, Stored, Unsynced,
    UnsyncedUpdate, Write, read_each,
};
use tokio::sync::{Mutex, oneshot};

use crate::options::SledOptions;
use crate::place;
use crate::queue::Queue;
use crate::read;
use crate::room;
use crate::shared::Shared;
use crate::tree::Tree;
use crate::writer::{Job, Reply, Writer, unwound};

/// Threads that read, of which most sleep. More would only wait for the same disk.
const READERS: usize = 8;

/// A store in a directory, on sled.
///
/// Works on any tokio runtime, and reads and writes on threads of its own.
///
/// Dropping the store closes it as [`Storage::close`] does, but blocks the thread meanwhile, and
/// has nobody to tell if that fails.
#[derive(Debug)]
pub struct SledStorage {
    queue: Arc<Queue<Job>>,
    shared: Arc<Shared>,
    readers: Arc<Readers<Arc<Shared>>>,
    writer: Mutex<Option<JoinHandle<Result<(), StorageError>>>>,
}

impl SledStorage {
    /// Opens the store in a directory. A directory that is empty or missing becomes a new store.
    ///
    /// Blocks while it reads. Fails with [`StorageError::NotAStore`] if there is something else,
    /// [`StorageError::Locked`] if another process has the store open,
    /// [`StorageError::NewerFormat`] if a newer version of this crate wrote it,
    /// [`StorageError::Corrupt`] if its files are damaged, and [`StorageError::Io`] if the
    /// directory cannot be read or written.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, StorageError> {
        Self::open_with(dir, SledOptions::default())
    }

    /// The same with other than the default options.
    pub fn open_with(dir: impl AsRef<Path>, options: SledOptions) -> Result<Self, StorageError> {
        let dir = dir.as_ref();
        let mut reserve = room::reserve(dir);
        let opened = reserve.open_with(|| unwound("open", dir, || place::open(dir, &options)))?;
        let shared = Arc::new(Shared::new(opened.tree.clone()));
        let queue = Arc::new(Queue::new());
        let source = Arc::clone(&shared);
        let readers = Arc::new(Readers::start(READERS, move || Arc::clone(&source))?);
        let writer = Writer::new(opened, reserve, Arc::clone(&queue), Arc::clone(&shared), options);
        let writer = thread::Builder::new()
            .name("downbeat-sled".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StorageError::io("cannot start the storage's thread", error))?;
        Ok(Self { queue, shared, readers, writer: Mutex::new(Some(writer)) })
    }

    /// Reads about as much as so many CoValues, on one of the reading threads.
    async fn read_with<T: Send + 'static>(
        &self,
        co_values: usize,
        read: impl FnOnce(&Tree) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.readers.run(Extent::CoValues(co_values), move |shared| shared.read(read)).await?
    }

    /// Hands a job to the writer and waits for the answer.
    async fn write<T>(
        &self,
        bytes: usize,
        job: impl FnOnce(Reply<T>) -> Job,
    ) -> Result<T, StorageError> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(job(reply), bytes).await?;
        answer.await.unwrap_or(Err(StorageError::Closed))
    }
}

#[async_trait]
impl Storage for SledStorage {
    async fn append(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StorageError> {
        let bytes = batch.iter().map(size).sum();
        self.write(bytes, |reply| Job::Append(batch, reply)).await
    }

    async fn load(&self, id: CoValueId) -> Result<Option<Stored>, StorageError> {
        self.read_with(1, move |tree| read::load(tree, id)).await
    }

    async fn load_many(&self, ids: Vec<CoValueId>) -> Vec<Result<Option<Stored>, StorageError>> {
        let (count, extent) = (ids.len(), Extent::CoValues(ids.len()));
        let load = |shared: &Shared, id| shared.read(|tree| read::load(tree, id));
        let answers = self
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
        self.read_with(1, move |tree| read::read(tree, id, &have, max_bytes)).await
    }

    async fn read_many(
        &self,
        have: Vec<KnownState>,
        max_bytes: usize,
    ) -> Vec<Result<Vec<SessionContent>, StorageError>> {
        let (count, extent) = (have.len(), Extent::CoValues(have.len()));
        let answers = self.readers.run(extent, move |shared| {
            read_each(have, max_bytes, |KnownState { id, sessions, .. }, room| {
                shared.read(|tree| read::read(tree, id, &sessions, room))
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
        self.read_with(1, |tree| place::totals(tree).map(|totals| totals.co_values)).await
    }

    async fn erase(&self, id: CoValueId) -> Result<Erased, StorageError> {
        self.write(0, |reply| Job::Erase(id, reply)).await
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
        self.write(bytes, |reply| Job::Track(updates, reply)).await
    }

    async fn unsynced(
        &self,
        after: Option<Unsynced>,
        limit: usize,
    ) -> Result<Vec<Unsynced>, StorageError> {
        self.read_with(limit, move |tree| read::unsynced(tree, after.as_ref(), limit)).await
    }

    async fn stats(&self) -> Result<Stats, StorageError> {
        self.read_with(1, |tree| Ok(place::totals(tree)?.stats(Some(tree.disk_bytes()?)))).await
    }

    async fn check(&self) -> Result<(), StorageError> {
        self.readers.run(Extent::CoValues(1), |shared| shared.check()).await?
    }

    async fn close(&self) -> Result<(), StorageError> {
        // Whoever closes at the same time waits here until it is done.
        let mut writer = self.writer.lock().await;
        let Some(writer) = writer.take() else { return Ok(()) };
        self.queue.close();
        let (shared, readers) = (Arc::clone(&self.shared), Arc::clone(&self.readers));
        let closing = tokio::task::spawn_blocking(move || {
            // No read is under way from here on.
            readers.close();
            let result = join(writer);
            shared.set_failed(StorageError::Closed);
            result
        });
        closing.await.unwrap_or(Err(StorageError::Closed))
    }
}

impl Drop for SledStorage {
    fn drop(&mut self) {
        self.queue.close();
        self.readers.close();
        if let Some(writer) = self.writer.get_mut().take() {
            // The writer has logged what went wrong.
            drop(join(writer));
        }
    }
}

fn join(writer: JoinHandle<Result<(), StorageError>>) -> Result<(), StorageError> {
    writer.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// What a write takes in the queue, in bytes.
fn size(write: &Write) -> usize {
    let content = |content: &SessionContent| -> usize {
        let transactions = content.transactions.iter();
        size_of::<SessionContent>() + transactions.map(|tx| tx.json().len()).sum::<usize>()
    };
    match write {
        Write::Append { header, sessions, .. } => {
            header.as_ref().map_or(0, |header: &Header| header.json().len())
                + sessions.iter().map(content).sum::<usize>()
        }
        Write::Tombstone { session, .. } => content(session),
    }
}
