//! The store: hands writes to the writer thread and reads to blocking threads.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use downbeat_protocol::{CoValueId, Header, SessionContent, SessionCounts};
use downbeat_storage::{
    Erased, Outcome, Stats, Storage, StorageError, Stored, Unsynced, UnsyncedUpdate, Write,
};
use tokio::sync::{Mutex, Semaphore, oneshot};

use crate::options::SledOptions;
use crate::place;
use crate::queue::Queue;
use crate::read;
use crate::shared::Shared;
use crate::tree::Tree;
use crate::writer::{Job, Reply, Writer, unwound};

/// Reads at a time. Few of them are ever busy, because most of what is read is in memory; more
/// would only wait for the same disk, and each takes a thread.
const MAX_READS: u32 = 8;

/// A store in a directory, on sled.
///
/// Works on any tokio runtime. Reads run on the runtime's blocking threads, writes on a thread of
/// the store's own.
///
/// Dropping the store closes it as [`Storage::close`] does, but blocks the thread meanwhile, and
/// has nobody to tell if that fails.
#[derive(Debug)]
pub struct SledStorage {
    queue: Arc<Queue<Job>>,
    shared: Arc<Shared>,
    reads: Arc<Semaphore>,
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
        let opened = unwound("open", dir, || place::open(dir, &options))?;
        let shared = Arc::new(Shared::new(opened.tree.clone()));
        let queue = Arc::new(Queue::new());
        let writer = Writer::new(opened, Arc::clone(&queue), Arc::clone(&shared), options);
        let writer = thread::Builder::new()
            .name("downbeat-sled".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StorageError::io("cannot start the storage's thread", error))?;
        Ok(Self {
            queue,
            shared,
            reads: Arc::new(Semaphore::new(MAX_READS as usize)),
            writer: Mutex::new(Some(writer)),
        })
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

    /// Reads on a blocking thread.
    async fn read_with<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Tree) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let turn =
            Arc::clone(&self.reads).acquire_owned().await.map_err(|_| StorageError::Closed)?;
        let shared = Arc::clone(&self.shared);
        let reading = tokio::task::spawn_blocking(move || {
            let result = unwound("read from", shared.dir(), || read(&shared.tree()?));
            drop(turn);
            result
        });
        reading.await.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down.
            Err(_) => Err(StorageError::Closed),
        })
    }
}

#[async_trait]
impl Storage for SledStorage {
    async fn append(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StorageError> {
        let bytes = batch.iter().map(size).sum();
        self.write(bytes, |reply| Job::Append(batch, reply)).await
    }

    async fn load(&self, id: CoValueId) -> Result<Option<Stored>, StorageError> {
        self.read_with(move |tree| read::load(tree, id)).await
    }

    async fn read(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError> {
        let have = have.clone();
        self.read_with(move |tree| read::read(tree, id, &have, max_bytes)).await
    }

    async fn list(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        self.read_with(move |tree| read::list(tree, after, limit)).await
    }

    async fn count(&self) -> Result<u64, StorageError> {
        self.read_with(|tree| place::totals(tree).map(|totals| totals.co_values)).await
    }

    async fn erase(&self, id: CoValueId) -> Result<Erased, StorageError> {
        self.write(0, |reply| Job::Erase(id, reply)).await
    }

    async fn erasable(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        self.read_with(move |tree| read::erasable(tree, after, limit)).await
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
        self.read_with(move |tree| read::unsynced(tree, after.as_ref(), limit)).await
    }

    async fn stats(&self) -> Result<Stats, StorageError> {
        self.read_with(|tree| Ok(place::totals(tree)?.stats(Some(tree.disk_bytes()?)))).await
    }

    async fn close(&self) -> Result<(), StorageError> {
        // Whoever closes at the same time waits here until it is done.
        let mut writer = self.writer.lock().await;
        let Some(writer) = writer.take() else { return Ok(()) };
        self.queue.close();
        // When this has all turns, no read is under way. None comes after.
        let turns = self.reads.acquire_many(MAX_READS).await;
        self.reads.close();
        drop(turns);
        let shared = Arc::clone(&self.shared);
        let closing = tokio::task::spawn_blocking(move || {
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
