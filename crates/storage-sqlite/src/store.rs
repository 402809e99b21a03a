//! The store: hands writes to the writer thread and reads to the reading threads.

use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use downbeat_protocol::{CoValueId, Header, KnownState, SessionContent, SessionCounts};
use downbeat_storage::files::Reserve;
use downbeat_storage::{
    Erased, Extent, Outcome, Readers, Stats, Storage, StorageError, Stored, Unsynced,
    UnsyncedUpdate, Write, read_each,
};
use rusqlite::Connection;
use tokio::sync::{Mutex, oneshot, watch};

use crate::check::{Check, Damaged};
use crate::connection::{MAX_READS, Places, Reader, Source, beside, open_writer};
use crate::fault::Fault;
use crate::options::SqliteOptions;
use crate::queue::{Queue, queue};
use crate::read;
use crate::totals::Totals;
use crate::writer::{Job, Opened, Reply, Writer};

/// What a job reads that looks at one CoValue, or at some figures.
const ONE: Extent = Extent::CoValues(1);

/// What the name of the reserve has after that of the file.
const RESERVE_SUFFIX: &str = "-reserve";

/// A store in an SQLite file, as the reference server writes it.
///
/// Works on any tokio runtime, with threads of its own that read and write.
///
/// Dropping the store closes it as [`Storage::close`] does, but blocks the thread meanwhile, and
/// has nobody to tell if that fails.
#[derive(Debug)]
pub struct SqliteStorage {
    source: Arc<Source>,
    queue: Queue<Job>,
    readers: Arc<Readers<Reader>>,
    threads: Mutex<Option<Threads>>,
    /// What the check of the indexes has found, and whether it is done.
    damaged: Arc<Damaged>,
    checked: watch::Receiver<bool>,
    /// Whether the totals can be believed; an audit holds the lock.
    audited: Arc<AtomicBool>,
    audit: Mutex<()>,
}

/// What must end before the store is closed.
#[derive(Debug)]
struct Threads {
    writer: JoinHandle<Result<(), StorageError>>,
    check: Check,
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
        let mut reserve = Reserve::new(beside(&file, RESERVE_SUFFIX));
        let connection = reserve.open_with(|| open_writer(&file, &options))?;
        let places = Places::of(&file)?;
        let (queue, inbox) = queue();
        let audited = Arc::new(AtomicBool::new(false));
        let opened = Opened { file: file.clone(), connection, places: places.clone(), reserve };
        let damaged = Arc::new(Damaged::default());
        let flags = (Arc::clone(&audited), Arc::clone(&damaged));
        let writer = Writer::new(opened, inbox, options.durability, flags)
            .map_err(|fault| fault.into_error("open", &file))?;
        let writer = thread::Builder::new()
            .name("downbeat-sqlite".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StorageError::io("cannot start the storage's thread", error))?;
        let source = Arc::new(Source { file, options, places });
        let for_reader = Arc::clone(&source);
        let readers = Readers::start(MAX_READS, move || Reader::new(Arc::clone(&for_reader)))?;
        let (check, checked) = Check::start(Arc::clone(&source), Arc::clone(&damaged))?;
        Ok(Self {
            source,
            queue,
            readers: Arc::new(readers),
            threads: Mutex::new(Some(Threads { writer, check })),
            damaged,
            checked,
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
        self.read_with(Extent::Everything, |connection| {
            let mut query = connection.prepare("PRAGMA integrity_check(100)")?;
            let findings = query.query_map([], |row| row.get(0))?;
            let findings: Vec<String> = findings.collect::<Result<_, _>>()?;
            Ok(if findings == ["ok"] { Vec::new() } else { findings })
        })
        .await
    }

    /// Waits for the check that begins when the store is opened: it compares the sessions with
    /// their indexes, which have no checksums. Gives the CoValues of which an index does not give
    /// the right sessions; they are not served. `None` if the check could not be finished, which
    /// is then in the log, or if the store was closed.
    pub async fn check_sessions(&self) -> Option<Vec<CoValueId>> {
        let mut checked = self.checked.clone();
        checked.wait_for(|done| *done).await.ok()?;
        Some(self.damaged.ids())
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

    /// Reads on one of the reading threads.
    async fn read_with<T: Send + 'static>(
        &self,
        extent: Extent,
        read: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.run(extent, |reader| reader.read(read)).await?
    }

    /// Runs a job on one of the reading threads, in one snapshot.
    async fn run<T: Send + 'static>(
        &self,
        extent: Extent,
        job: impl FnOnce(&mut Reader) -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let in_snapshot = |reader: &mut Reader| {
            let answer = job(reader);
            reader.end_snapshot();
            answer
        };
        self.readers.run(extent, in_snapshot).await
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
        self.read_with(ONE, Totals::read).await
    }

    async fn audit(&self) -> Result<(), StorageError> {
        let by = self.read_with(Extent::Everything, Totals::audit).await?;
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
        let damaged = Arc::clone(&self.damaged);
        self.run(ONE, move |reader| load(reader, &damaged, id)).await?
    }

    async fn load_many(&self, ids: Vec<CoValueId>) -> Vec<Result<Option<Stored>, StorageError>> {
        let count = ids.len();
        let damaged = Arc::clone(&self.damaged);
        let answers = self.run(Extent::CoValues(count), move |reader| {
            ids.into_iter().map(|id| load(reader, &damaged, id)).collect()
        });
        answers.await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn read(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError> {
        let have = have.clone();
        let damaged = Arc::clone(&self.damaged);
        self.run(ONE, move |reader| read(reader, &damaged, id, &have, max_bytes)).await?
    }

    async fn read_many(
        &self,
        have: Vec<KnownState>,
        max_bytes: usize,
    ) -> Vec<Result<Vec<SessionContent>, StorageError>> {
        let count = have.len();
        let damaged = Arc::clone(&self.damaged);
        let answers = self.run(Extent::CoValues(count), move |reader| {
            read_each(have, max_bytes, |KnownState { id, sessions, .. }, room| {
                read(reader, &damaged, id, &sessions, room)
            })
        });
        answers.await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn list(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        self.read_with(Extent::CoValues(limit), move |connection| {
            read::list(connection, after, limit)
        })
        .await
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
        self.read_with(Extent::CoValues(limit), move |connection| {
            read::erasable(connection, after, limit)
        })
        .await
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
        self.read_with(Extent::CoValues(limit), move |connection| {
            read::unsynced(connection, after.as_ref(), limit)
        })
        .await
    }

    async fn stats(&self) -> Result<Stats, StorageError> {
        let totals = self.totals().await?;
        let source = Arc::clone(&self.source);
        let disk_bytes = self.run(ONE, move |_| disk_bytes(&source.file)).await?;
        let file = self.source.file.display();
        let disk_bytes = disk_bytes
            .map_err(|error| StorageError::io(format!("cannot tell the size of {file}"), error))?;
        Ok(totals.stats(Some(disk_bytes)))
    }

    async fn check(&self) -> Result<(), StorageError> {
        let source = Arc::clone(&self.source);
        self.readers.run(ONE, move |_| source.places.check()).await?
    }

    async fn close(&self) -> Result<(), StorageError> {
        // Whoever closes at the same time waits here until it is done.
        let mut threads = self.threads.lock().await;
        let Some(threads) = threads.take() else { return Ok(()) };
        self.queue.close();
        let readers = Arc::clone(&self.readers);
        let closing = tokio::task::spawn_blocking(move || {
            readers.close();
            join(threads)
        });
        closing.await.unwrap_or(Err(StorageError::Closed))
    }
}

impl Drop for SqliteStorage {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(threads) = self.threads.get_mut().take() {
            self.readers.close();
            if let Err(error) = join(threads) {
                tracing::error!(%error, "the store could not be closed well");
            }
        }
    }
}

fn load(
    reader: &mut Reader,
    damaged: &Damaged,
    id: CoValueId,
) -> Result<Option<Stored>, StorageError> {
    reader.read(|connection| {
        damaged.refuse(id)?;
        read::load(connection, id).map_err(|fault| fault.on_the_way_to(id))
    })
}

fn read(
    reader: &mut Reader,
    damaged: &Damaged,
    id: CoValueId,
    have: &SessionCounts,
    max_bytes: usize,
) -> Result<Vec<SessionContent>, StorageError> {
    reader.read(|connection| {
        damaged.refuse(id)?;
        read::read(connection, id, have, max_bytes).map_err(|fault| fault.on_the_way_to(id))
    })
}

fn join(threads: Threads) -> Result<(), StorageError> {
    let Threads { writer, check } = threads;
    // The last connection that is closed must be the writer's.
    drop(check);
    writer.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// The size of the file and of the log beside it.
fn disk_bytes(file: &Path) -> io::Result<u64> {
    let log = match fs::metadata(beside(file, "-wal")) {
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
