//! The store: hands writes to the writer thread and reads to blocking threads.

use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use downbeat_protocol::{CoValueId, Header, SessionContent, SessionCounts};
use downbeat_storage::{
    Erased, Outcome, Stats, Storage, StorageError, Stored, Unsynced, UnsyncedUpdate, Write,
};
use rusqlite::Connection;
use tokio::sync::{Mutex, Semaphore, oneshot};

use crate::connection::{MAX_READS, Readers, open_writer};
use crate::fault::Fault;
use crate::options::SqliteOptions;
use crate::queue::{Queue, queue};
use crate::read;
use crate::totals::Totals;
use crate::writer::{Job, Reply, Writer};

/// A store in an SQLite file, as the reference server writes it.
///
/// Works on any tokio runtime. Reads run on the runtime's blocking threads, writes on a thread of
/// the store's own.
///
/// Dropping the store closes it as [`Storage::close`] does, but blocks the thread meanwhile, and
/// has nobody to tell if that fails.
#[derive(Debug)]
pub struct SqliteStorage {
    shared: Arc<Shared>,
    queue: Queue<Job>,
    turns: Arc<Semaphore>,
    writer: Mutex<Option<JoinHandle<Result<(), StorageError>>>>,
    /// Whether the totals can be believed; an audit holds the lock.
    audited: Arc<AtomicBool>,
    audit: Mutex<()>,
}

/// What reading threads need.
#[derive(Debug)]
struct Shared {
    file: PathBuf,
    options: SqliteOptions,
    readers: Readers,
}

impl SqliteStorage {
    /// Opens a file, and brings it up to the reference's newest version if it is of an older one.
    /// A file that is empty or missing becomes a new store, and directories above it are made.
    ///
    /// Blocks while it does. Fails with [`StorageError::NotAStore`] if there is something else,
    /// [`StorageError::NewerFormat`] if a newer version of the reference has migrated it,
    /// [`StorageError::Locked`] if another process does not stop writing to it,
    /// [`StorageError::Corrupt`] if its pages are damaged, and [`StorageError::Io`] if it cannot be
    /// read or written.
    pub fn open(file: impl AsRef<Path>) -> Result<Self, StorageError> {
        Self::open_with(file, SqliteOptions::default())
    }

    /// The same with other than the default options.
    pub fn open_with(file: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, StorageError> {
        // Some names that are no absolute paths mean something else to SQLite.
        let file = std::path::absolute(file.as_ref()).map_err(|error| {
            StorageError::io(format!("cannot open {}", file.as_ref().display()), error)
        })?;
        let connection = open_writer(&file, &options)?;
        let (queue, inbox) = queue();
        let audited = Arc::new(AtomicBool::new(false));
        let durability = options.durability;
        let writer = Writer::new(file.clone(), connection, inbox, durability, Arc::clone(&audited))
            .map_err(|fault| fault.into_error("open", &file))?;
        let writer = thread::Builder::new()
            .name("downbeat-sqlite".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StorageError::io("cannot start the storage's thread", error))?;
        Ok(Self {
            shared: Arc::new(Shared { file, options, readers: Readers::default() }),
            queue,
            turns: Arc::new(Semaphore::new(MAX_READS as usize)),
            writer: Mutex::new(Some(writer)),
            audited,
            audit: Mutex::new(()),
        })
    }

    /// Checks the file as SQLite understands it: that its pages fit together and its indexes hold
    /// what its tables hold. Gives what is wrong, at most 100 findings. Goes through the whole
    /// file.
    ///
    /// A changed byte within a transaction or a signature is not found by this.
    pub async fn check_pages(&self) -> Result<Vec<String>, StorageError> {
        self.read_with(|connection| {
            let mut query = connection.prepare("PRAGMA integrity_check(100)")?;
            let findings = query.query_map([], |row| row.get(0))?;
            let findings: Vec<String> = findings.collect::<Result<_, _>>()?;
            Ok(if findings == ["ok"] { Vec::new() } else { findings })
        })
        .await
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
        read: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StorageError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| StorageError::Closed)?;
        let shared = Arc::clone(&self.shared);
        let reading = tokio::task::spawn_blocking(move || {
            let result = shared.readers.read(&shared.file, &shared.options, read);
            drop(turn);
            result
        });
        reading.await.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down.
            Err(_) => Err(StorageError::Closed),
        })
    }

    /// The totals, after an audit if there was none yet.
    async fn totals(&self) -> Result<Totals, StorageError> {
        let turn = self.audit.lock().await;
        if !self.audited.load(Ordering::Acquire) {
            // Whoever writes meanwhile makes it untrue again.
            self.audited.store(true, Ordering::Release);
            if let Err(error) = self.audit().await {
                self.audited.store(false, Ordering::Release);
                return Err(error);
            }
        }
        drop(turn);
        self.read_with(Totals::read).await
    }

    async fn audit(&self) -> Result<(), StorageError> {
        let by = self.read_with(Totals::audit).await?;
        if by == Totals::default() {
            return Ok(());
        }
        self.write(0, |reply| Job::Correct { by, reply }).await
    }
}

#[async_trait]
impl Storage for SqliteStorage {
    async fn append(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StorageError> {
        let bytes = batch.iter().map(size).sum();
        let outcomes = Vec::with_capacity(batch.len());
        self.write(bytes, |reply| Job::Append { writes: batch, outcomes, reply }).await
    }

    async fn load(&self, id: CoValueId) -> Result<Option<Stored>, StorageError> {
        self.read_with(move |connection| {
            read::load(connection, id).map_err(|fault| fault.on_the_way_to(id))
        })
        .await
    }

    async fn read(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError> {
        let have = have.clone();
        self.read_with(move |connection| {
            read::read(connection, id, &have, max_bytes).map_err(|fault| fault.on_the_way_to(id))
        })
        .await
    }

    async fn list(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        self.read_with(move |connection| read::list(connection, after, limit)).await
    }

    async fn count(&self) -> Result<u64, StorageError> {
        self.totals().await.map(|totals| totals.stats(None).co_values)
    }

    async fn erase(&self, id: CoValueId) -> Result<Erased, StorageError> {
        let erased = Ok(Erased::default());
        self.write(0, |reply| Job::Erase { id, erased, reply }).await
    }

    async fn erasable(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        self.read_with(move |connection| read::erasable(connection, after, limit)).await
    }

    async fn track_unsynced(&self, updates: Vec<UnsyncedUpdate>) -> Result<(), StorageError> {
        let bytes = size_of_val(updates.as_slice());
        self.write(bytes, |reply| Job::Track { updates, reply }).await
    }

    async fn unsynced(
        &self,
        after: Option<Unsynced>,
        limit: usize,
    ) -> Result<Vec<Unsynced>, StorageError> {
        self.read_with(move |connection| read::unsynced(connection, after.as_ref(), limit)).await
    }

    async fn stats(&self) -> Result<Stats, StorageError> {
        let totals = self.totals().await?;
        let shared = Arc::clone(&self.shared);
        let disk_bytes = self.read_with(move |_| Ok(disk_bytes(&shared.file))).await?;
        let file = self.shared.file.display();
        let disk_bytes = disk_bytes
            .map_err(|error| StorageError::io(format!("cannot tell the size of {file}"), error))?;
        Ok(totals.stats(Some(disk_bytes)))
    }

    async fn close(&self) -> Result<(), StorageError> {
        // Whoever closes at the same time waits here until it is done.
        let mut writer = self.writer.lock().await;
        let Some(writer) = writer.take() else { return Ok(()) };
        self.queue.close();
        // When this has all turns, no read is under way. None comes after.
        let turns = self.turns.acquire_many(MAX_READS).await;
        self.turns.close();
        drop(turns);
        let shared = Arc::clone(&self.shared);
        let closing = tokio::task::spawn_blocking(move || {
            shared.readers.close();
            join(writer)
        });
        closing.await.unwrap_or(Err(StorageError::Closed))
    }
}

impl Drop for SqliteStorage {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(writer) = self.writer.get_mut().take() {
            self.shared.readers.close();
            if let Err(error) = join(writer) {
                tracing::error!(%error, "the store could not be closed well");
            }
        }
    }
}

fn join(writer: JoinHandle<Result<(), StorageError>>) -> Result<(), StorageError> {
    writer.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// The size of the file and of the log beside it.
fn disk_bytes(file: &Path) -> io::Result<u64> {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    let log = match fs::metadata(log) {
        Ok(log) => log.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(fs::metadata(file)?.len() + log)
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
