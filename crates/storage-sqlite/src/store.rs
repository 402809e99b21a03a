//! The store: hands writes to the writer thread and reads to the reader threads.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use downbeat_protocol::{CoValueId, KnownState, SessionContent, SessionCounts};
use downbeat_storage::files::SpaceReserve;
use downbeat_storage::{
    Compacted, Erased, Outcome, ReadExtent, ReaderThreads, Runs, Storage, StorageError, StoreStats,
    StoredCoValue, Unsynced, UnsyncedUpdate, Write, WriterThread, read_each,
};
use rusqlite::Connection;
use tokio::sync::{Mutex, watch};
use tracing::error;

use crate::check::{Check, Damaged};
use crate::compact::compact;
use crate::connection::{FileIdentities, MAX_READS, Reader, Source, beside, open_writer};
use crate::error::FileError;
use crate::exclusive::ExclusiveLock;
use crate::options::SqliteOptions;
use crate::read;
use crate::schema::SqliteSchema;
use crate::totals::Totals;
use crate::writer::{Opened, Writer};

/// The extent of a job that reads one CoValue, or the totals.
const ONE: ReadExtent = ReadExtent::CoValues(1);

/// Suffix of the name of the reserve, after the name of the file.
const RESERVE_SUFFIX: &str = "-reserve";

/// A store in an SQLite file, in the schema of the reference server or in the native one.
///
/// Works on any tokio runtime, and reads and writes on threads of its own.
///
/// Dropping the store closes it like [`Storage::close`], but blocks the thread meanwhile, and only
/// logs errors.
#[derive(Debug)]
pub struct SqliteStorage {
    source: Arc<Source>,
    schema: SqliteSchema,
    threads: Arc<Threads>,
    /// The findings of the check of the indexes.
    damaged: Arc<Damaged>,
    /// Whether the check is done.
    checked: watch::Receiver<bool>,
    /// Whether the totals are right.
    audited: Arc<AtomicBool>,
    /// Held during an audit of the totals.
    audit: Mutex<()>,
}

#[derive(Debug)]
struct Threads {
    readers: ReaderThreads<Reader>,
    check: std::sync::Mutex<Option<Check>>,
    writer: WriterThread<Writer>,
    lock: std::sync::Mutex<Option<ExclusiveLock>>,
}

impl SqliteStorage {
    /// Opens a file, in the schema that it has. A file of an older version of the reference is
    /// migrated to the newest. An empty or missing file becomes a new store, and missing directories
    /// above it are created. Blocks meanwhile.
    ///
    /// # Errors
    ///
    /// - [`StorageError::NotAStore`] if the path holds something else,
    /// - [`StorageError::NewerFormat`] if a newer version of Downbeat or of the reference has written it,
    /// - [`StorageError::Locked`] if another process does not stop writing to it, or has it for
    ///   itself and this one [asks for the same](SqliteOptions::exclusive),
    /// - [`StorageError::Corrupt`] if its pages are damaged,
    /// - [`StorageError::Io`] if it cannot be read or written.
    pub fn open(file: impl AsRef<Path>) -> Result<Self, StorageError> {
        Self::open_with(file, SqliteOptions::default())
    }

    /// [`Self::open`] with options.
    pub fn open_with(file: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, StorageError> {
        // SQLite gives some relative names a special meaning.
        let file = std::path::absolute(file.as_ref()).map_err(|error| {
            StorageError::io(format!("cannot open {}", file.as_ref().display()), error)
        })?;
        let mut reserve = SpaceReserve::new(beside(&file, RESERVE_SUFFIX));
        let ((connection, schema), lock) = reserve.open_with(|| {
            let lock = options.exclusive.then(|| ExclusiveLock::acquire(&file)).transpose()?;
            Ok((open_writer(&file, &options)?, lock))
        })?;
        let identities = FileIdentities::of(&file)?;
        let audited = Arc::new(AtomicBool::new(false));
        let opened = Opened {
            file: file.clone(),
            connection,
            schema,
            identities: identities.clone(),
            reserve,
        };
        let damaged = Arc::new(Damaged::default());
        let flags = (Arc::clone(&audited), Arc::clone(&damaged));
        let writer = Writer::new(opened, options.durability, flags)
            .map_err(|error| error.into_storage_error("open", &file))?;
        let writer = WriterThread::start("downbeat-sqlite", writer)?;
        let source = Arc::new(Source { file, options, identities });
        let for_reader = Arc::clone(&source);
        let readers =
            ReaderThreads::start(MAX_READS, move || Reader::new(Arc::clone(&for_reader)))?;
        let (check, checked) = Check::start(Arc::clone(&source), schema, Arc::clone(&damaged))?;
        Ok(Self {
            source,
            schema,
            threads: Arc::new(Threads {
                readers,
                check: Some(check).into(),
                writer,
                lock: lock.into(),
            }),
            damaged,
            checked,
            audited,
            audit: Mutex::new(()),
        })
    }

    /// Compacts a file with SQLite's `VACUUM`, in the schema that it has. No process may have it
    /// open. Blocks meanwhile.
    ///
    /// A kill at any time leaves the file as it was or compacted.
    ///
    /// # Errors
    ///
    /// Those of [`Self::open`]; [`StorageError::Locked`] if any process has the file open; and
    /// [`StorageError::Full`] if there is no room for the copy that SQLite makes. The file stays as
    /// it was.
    pub fn compact(file: impl AsRef<Path>) -> Result<Compacted, StorageError> {
        compact(file.as_ref())
    }

    /// The schema of the file.
    pub fn schema(&self) -> SqliteSchema {
        self.schema
    }

    /// Runs SQLite's own check of the whole file: whether its pages fit together, and its indexes
    /// match its tables. Returns the findings, at most 100.
    ///
    /// This does not find a changed byte within a transaction or a signature.
    pub async fn check_pages(&self) -> Result<Vec<String>, StorageError> {
        self.read_with(ReadExtent::Everything, |connection| {
            let mut query = connection.prepare("PRAGMA integrity_check(100)")?;
            let findings = query.query_map([], |row| row.get(0))?;
            let findings: Vec<String> = findings.collect::<Result<_, _>>()?;
            Ok(if findings == ["ok"] { Vec::new() } else { findings })
        })
        .await
    }

    /// Waits for the check that starts when the store is opened. It compares the table of sessions
    /// with its indexes, which have no checksums. Returns the CoValues whose sessions an index does
    /// not give correctly; they are not served. `None` if the check failed, which the log explains,
    /// or if the store was closed.
    pub async fn check_sessions(&self) -> Option<Vec<CoValueId>> {
        let mut checked = self.checked.clone();
        checked.wait_for(|done| *done).await.ok()?;
        Some(self.damaged.ids())
    }

    /// Reads on one of the reader threads.
    async fn read_with<T: Send + 'static>(
        &self,
        extent: ReadExtent,
        read: impl FnOnce(&Connection) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.run(extent, |reader| reader.read(read)).await?
    }

    /// Runs a job on one of the reader threads, in one snapshot.
    async fn run<T: Send + 'static>(
        &self,
        extent: ReadExtent,
        job: impl FnOnce(&mut Reader) -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let in_snapshot = |reader: &mut Reader| {
            let answer = job(reader);
            reader.end_snapshot();
            answer
        };
        self.threads.readers.run(extent, in_snapshot).await
    }

    /// The totals, after an audit if they may be wrong.
    async fn totals(&self) -> Result<Totals, StorageError> {
        let turn = self.audit.lock().await;
        if !self.audited.load(Ordering::Acquire) {
            // A write of another process sets it to false again.
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
        let schema = self.schema;
        let audit = move |connection: &Connection| schema.audit(connection);
        let by = self.read_with(ReadExtent::Everything, audit).await?;
        if by == Totals::default() {
            return Ok(());
        }
        self.threads.writer.run(0, move |writer| writer.correct_totals(by)).await
    }
}

#[async_trait]
impl Storage for SqliteStorage {
    async fn append(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StorageError> {
        let bytes = batch.iter().map(Write::approximate_bytes).sum();
        self.threads.writer.run(bytes, move |writer| writer.append(&batch)).await
    }

    async fn load(&self, id: CoValueId) -> Result<Option<StoredCoValue>, StorageError> {
        let (schema, damaged) = (self.schema, Arc::clone(&self.damaged));
        self.run(ONE, move |reader| load(reader, schema, &damaged, id)).await?
    }

    async fn load_many(
        &self,
        ids: Vec<CoValueId>,
    ) -> Vec<Result<Option<StoredCoValue>, StorageError>> {
        let count = ids.len();
        let (schema, damaged) = (self.schema, Arc::clone(&self.damaged));
        let answers = self.run(ReadExtent::CoValues(count), move |reader| {
            ids.into_iter().map(|id| load(reader, schema, &damaged, id)).collect()
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
        let (schema, damaged) = (self.schema, Arc::clone(&self.damaged));
        let runs = Runs::new(max_bytes);
        self.run(ONE, move |reader| read(reader, schema, &damaged, (id, &have), runs)).await?
    }

    async fn read_extensions(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError> {
        let have = have.clone();
        let (schema, damaged) = (self.schema, Arc::clone(&self.damaged));
        let runs = Runs::unmerged(max_bytes);
        self.run(ONE, move |reader| read(reader, schema, &damaged, (id, &have), runs)).await?
    }

    async fn read_many(
        &self,
        have: Vec<KnownState>,
        max_bytes: usize,
    ) -> Vec<Result<Vec<SessionContent>, StorageError>> {
        let count = have.len();
        let (schema, damaged) = (self.schema, Arc::clone(&self.damaged));
        let answers = self.run(ReadExtent::CoValues(count), move |reader| {
            read_each(have, max_bytes, |KnownState { id, sessions, .. }, room| {
                read(reader, schema, &damaged, (id, &sessions), Runs::new(room))
            })
        });
        answers.await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn list(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        self.read_with(ReadExtent::CoValues(limit), move |connection| {
            read::list(connection, after, limit)
        })
        .await
    }

    async fn count(&self) -> Result<u64, StorageError> {
        self.totals().await.map(|totals| totals.stats(None).co_values)
    }

    async fn erase(&self, id: CoValueId) -> Result<Erased, StorageError> {
        self.threads.writer.run(0, move |writer| writer.erase(id)).await
    }

    async fn erasable(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        self.read_with(ReadExtent::CoValues(limit), move |connection| {
            read::erasable(connection, after, limit)
        })
        .await
    }

    async fn track_unsynced(&self, updates: Vec<UnsyncedUpdate>) -> Result<(), StorageError> {
        let bytes = size_of_val(updates.as_slice());
        self.threads.writer.run(bytes, move |writer| writer.track(&updates)).await
    }

    async fn unsynced(
        &self,
        after: Option<Unsynced>,
        limit: usize,
    ) -> Result<Vec<Unsynced>, StorageError> {
        let schema = self.schema;
        self.read_with(ReadExtent::CoValues(limit), move |connection| {
            read::unsynced(connection, schema, after.as_ref(), limit)
        })
        .await
    }

    async fn stats(&self) -> Result<StoreStats, StorageError> {
        let totals = self.totals().await?;
        let source = Arc::clone(&self.source);
        let disk_bytes = self.run(ONE, move |_| disk_bytes(&source.file)).await?;
        let file = self.source.file.display();
        let disk_bytes = disk_bytes
            .map_err(|error| StorageError::io(format!("cannot read the size of {file}"), error))?;
        Ok(totals.stats(Some(disk_bytes)))
    }

    async fn check(&self) -> Result<(), StorageError> {
        let source = Arc::clone(&self.source);
        self.threads.readers.run(ONE, move |_| source.identities.check()).await?
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.threads.writer.stop();
        let threads = Arc::clone(&self.threads);
        let closing = tokio::task::spawn_blocking(move || threads.close());
        closing.await.unwrap_or(Err(StorageError::Closed))
    }
}

impl Threads {
    /// Ends all reads and writes, and closes the file. Blocks meanwhile.
    fn close(&self) -> Result<(), StorageError> {
        self.writer.stop();
        // The connection of the writer must be the last one to close.
        self.readers.close();
        drop(self.check.lock().unwrap_or_else(PoisonError::into_inner).take());
        let closed = self.writer.close();
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        closed
    }
}

impl Drop for SqliteStorage {
    fn drop(&mut self) {
        if let Err(error) = self.threads.close() {
            error!(%error, "cannot close the store");
        }
    }
}

fn load(
    reader: &mut Reader,
    schema: SqliteSchema,
    damaged: &Damaged,
    id: CoValueId,
) -> Result<Option<StoredCoValue>, StorageError> {
    reader.read(|connection| {
        damaged.refuse(id)?;
        schema.load(connection, id).map_err(|error| error.while_reading(id))
    })
}

fn read(
    reader: &mut Reader,
    schema: SqliteSchema,
    damaged: &Damaged,
    (id, have): (CoValueId, &SessionCounts),
    runs: Runs,
) -> Result<Vec<SessionContent>, StorageError> {
    reader.read(|connection| {
        damaged.refuse(id)?;
        schema.read(connection, id, have, runs).map_err(|error| error.while_reading(id))
    })
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
