//! The writer: makes one transaction of each batch.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use downbeat_protocol::CoValueId;
use downbeat_storage::files::SpaceReserve;
use downbeat_storage::{
    Durability, Erased, Outcome, StorageError, UnsyncedUpdate, Write, WriterState,
};
use rusqlite::Connection;
use tracing::{error, warn};

use crate::check::Damaged;
use crate::connection::{FileIdentities, beside};
use crate::draft::{DamageScope, Draft, Remembered};
use crate::error::FileError;
use crate::schema::SqliteSchema;
use crate::totals::Totals;

/// Interval between attempts to flush after a flush that failed.
const FLUSH_RETRY: Duration = Duration::from_millis(250);

/// Time after an erasure until its space is given back: erasures come in series.
const VACUUM_DELAY: Duration = Duration::from_secs(1);

/// Interval between steps of giving space back. Leaves most of the time to other writes.
const VACUUM_INTERVAL: Duration = Duration::from_millis(50);

/// Pages that one step gives back. Takes a few milliseconds.
const VACUUM_PAGES: i64 = 256;

/// Part of the file that may be free. It is soon written again.
const FREE_PART: i64 = 8;

/// The most space that opening a file takes: the shared memory of its log.
const RESERVE_BYTES: u64 = 1 << 20;

/// A file that has just been opened.
pub(crate) struct Opened {
    pub(crate) file: PathBuf,
    pub(crate) connection: Connection,
    pub(crate) schema: SqliteSchema,
    pub(crate) identities: FileIdentities,
    pub(crate) reserve: SpaceReserve,
}

/// The state of the writer thread.
#[derive(Debug)]
pub(crate) struct Writer {
    file: PathBuf,
    connection: Connection,
    identities: FileIdentities,
    reserve: SpaceReserve,
    durability: Durability,
    remembered: Remembered,
    /// Changes when another process has written.
    version: i64,
    /// Whether the totals are right.
    audited: Arc<AtomicBool>,
    /// CoValues that must not be written to.
    damaged: Arc<Damaged>,
    /// When writes without a flush must be flushed.
    flush_by: Option<Instant>,
    /// When the next free pages are given back.
    vacuum_at: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(
        opened: Opened,
        durability: Durability,
        (audited, damaged): (Arc<AtomicBool>, Arc<Damaged>),
    ) -> Result<Self, FileError> {
        let Opened { file, connection, schema, identities, reserve } = opened;
        let version = data_version(&connection)?;
        let remembered = Remembered::new(schema);
        Ok(Self {
            file,
            connection,
            identities,
            reserve,
            durability,
            remembered,
            version,
            audited,
            damaged,
            flush_by: None,
            vacuum_at: None,
        })
    }

    /// See [`Storage::append`](downbeat_storage::Storage::append).
    pub(crate) fn append(&mut self, batch: &[Write]) -> Result<Vec<Outcome>, StorageError> {
        self.change(|draft, scope| batch.iter().map(|write| draft.write(write, scope)).collect())
    }

    /// See [`Storage::track_unsynced`](downbeat_storage::Storage::track_unsynced).
    pub(crate) fn track(&mut self, updates: &[UnsyncedUpdate]) -> Result<(), StorageError> {
        self.change(|draft, _| updates.iter().try_for_each(|update| draft.track(update)))
    }

    /// See [`Storage::erase`](downbeat_storage::Storage::erase).
    pub(crate) fn erase(&mut self, id: CoValueId) -> Result<Erased, StorageError> {
        // Content that comes back after a crash is erased again. So this need not wait for the
        // disk; the next commit that does covers it.
        self.wait_for_disk(false)?;
        let erased = self.change(|draft, scope| draft.erase(id, scope));
        self.wait_for_disk(true)?;
        self.vacuum_at = Some(Instant::now() + VACUUM_DELAY);
        Ok(erased??)
    }

    /// Adds the result of an audit to the totals.
    pub(crate) fn correct_totals(&mut self, by: Totals) -> Result<(), StorageError> {
        self.change(|draft, _| {
            draft.totals += by;
            Ok(())
        })
    }

    /// Sets whether commits wait for the disk, unless the options say that they never do.
    fn wait_for_disk(&self, wait: bool) -> Result<(), StorageError> {
        if self.durability == Durability::Flushed {
            let synchronous = if wait { "FULL" } else { "NORMAL" };
            let set = self.connection.pragma_update(None, "synchronous", synchronous);
            set.map_err(|error| self.explain(error.into()))?;
        }
        Ok(())
    }

    /// Makes a change in one transaction. After an error nothing of it is stored.
    fn change<T>(
        &mut self,
        mut change: impl FnMut(&mut Draft<'_>, DamageScope) -> Result<T, FileError>,
    ) -> Result<T, StorageError> {
        self.identities.check()?;
        let mut result = self.attempt(&mut change, DamageScope::Batch);
        if let Err(StorageError::Corrupt(damage)) = &result {
            warn!(%damage, "a batch met damage; trying again without the writes that meet it");
            result = self.attempt(&mut change, DamageScope::Write);
        }
        let done = result?;
        // A write to a file that has lost its name is not stored.
        self.identities.check()?;
        Ok(done)
    }

    fn attempt<T>(
        &mut self,
        change: &mut impl FnMut(&mut Draft<'_>, DamageScope) -> Result<T, FileError>,
        scope: DamageScope,
    ) -> Result<T, StorageError> {
        let result = self.transact(change, scope).map_err(|error| self.explain(error));
        if result.is_err() {
            self.remembered.forget();
            if !self.connection.is_autocommit()
                && let Err(error) = self.connection.execute_batch("ROLLBACK")
            {
                error!(%error, "cannot roll a transaction back");
            }
        } else if let Durability::Relaxed { within } = self.durability {
            self.flush_by.get_or_insert_with(|| Instant::now() + within);
        }
        result
    }

    fn transact<T>(
        &mut self,
        change: &mut impl FnMut(&mut Draft<'_>, DamageScope) -> Result<T, FileError>,
        scope: DamageScope,
    ) -> Result<T, FileError> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let version = data_version(&self.connection)?;
        if version != self.version {
            self.version = version;
            self.remembered.forget();
            self.audited.store(false, Ordering::Release);
        }
        let mut draft = Draft {
            connection: &self.connection,
            remembered: &mut self.remembered,
            damaged: &self.damaged,
            totals: Totals::default(),
        };
        let done = change(&mut draft, scope)?;
        if draft.totals != Totals::default() {
            draft.totals.write(&self.connection)?;
        }
        self.connection.execute_batch("COMMIT")?;
        Ok(done)
    }

    /// Flushes earlier writes, which are all in the log beside the file.
    ///
    /// A commit that waits for the disk would flush the log only if it changed something: SQLite
    /// does not write pages that stay the same.
    fn flush(&mut self) {
        let log = beside(&self.file, "-wal");
        let flushed = OpenOptions::new().write(true).open(&log).and_then(|log| log.sync_data());
        match flushed {
            Ok(()) => self.flush_by = None,
            Err(error) => {
                let log = log.display();
                error!(%error, %log, "acknowledged writes are not durable yet; trying again");
                self.flush_by = Some(Instant::now() + FLUSH_RETRY);
            }
        }
    }

    /// Gives some free pages back to the file system, and sets when to go on. Does nothing to a file
    /// of the reference, whose `auto_vacuum` is off.
    fn vacuum(&mut self) {
        self.vacuum_at = match self.vacuum_some() {
            Ok(true) => Some(Instant::now() + VACUUM_INTERVAL),
            Ok(false) => None,
            Err(error) => {
                warn!(%error, "cannot give the space of erased content back");
                None
            }
        };
    }

    /// Returns whether there is more to give back.
    fn vacuum_some(&self) -> Result<bool, StorageError> {
        self.identities.check()?;
        let number = |name| self.connection.pragma_query_value(None, name, |row| row.get(0));
        let vacuum = || -> Result<bool, rusqlite::Error> {
            let (mode, free): (i64, i64) = (number("auto_vacuum")?, number("freelist_count")?);
            if mode == 0 || free <= number("page_count")? / FREE_PART {
                return Ok(false);
            }
            let step = format!("PRAGMA incremental_vacuum({VACUUM_PAGES})");
            let mut step = self.connection.prepare(&step)?;
            let mut rows = step.query([])?;
            while rows.next()?.is_some() {}
            Ok(true)
        };
        self.wait_for_disk(false)?;
        let more = vacuum().map_err(|error| self.explain(error.into()));
        self.wait_for_disk(true)?;
        more
    }

    fn explain(&self, error: FileError) -> StorageError {
        error.into_storage_error("write to", &self.file)
    }
}

impl WriterState for Writer {
    fn maintain(&mut self) -> Option<Instant> {
        if self.flush_by.is_some_and(|due| due <= Instant::now()) {
            self.flush();
        }
        if self.vacuum_at.is_some_and(|due| due <= Instant::now()) {
            self.vacuum();
        }
        self.reserve.keep(RESERVE_BYTES, RESERVE_BYTES);
        [self.flush_by, self.vacuum_at, self.reserve.retry_at()].into_iter().flatten().min()
    }

    /// Moves the content of the log beside the file into the file. Another process that has the
    /// file open may prevent that, which does no harm.
    fn close(self) -> Result<(), StorageError> {
        let checkpoint =
            self.connection.pragma_update(None, "synchronous", "FULL").and_then(|()| {
                self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            });
        checkpoint.map_err(|error| self.explain(error.into()))?;
        let Self { file, connection, .. } = self;
        let closed = connection.close();
        closed.map_err(|(_, error)| FileError::from(error).into_storage_error("close", &file))
    }
}

fn data_version(connection: &Connection) -> Result<i64, FileError> {
    let mut query = connection.prepare_cached("PRAGMA data_version")?;
    Ok(query.query_row([], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use downbeat_storage::conformance::{Author, CoValueFixture};

    use super::*;
    use crate::connection::open_writer;
    use crate::options::SqliteOptions;

    fn writer(dir: &Path) -> Writer {
        let file = dir.join("storage.db");
        let (connection, schema) = open_writer(&file, &SqliteOptions::default()).unwrap();
        let identities = FileIdentities::of(&file).unwrap();
        let reserve = SpaceReserve::new(dir.join("reserve"));
        let opened = Opened { file, connection, schema, identities, reserve };
        Writer::new(opened, Durability::Flushed, Default::default()).unwrap()
    }

    /// One attempt, without the second one after damage.
    fn append(writer: &mut Writer, batch: &[Write]) -> Result<Vec<Outcome>, StorageError> {
        let mut write = |draft: &mut Draft<'_>, scope: DamageScope| {
            batch.iter().map(|write| draft.write(write, scope)).collect()
        };
        writer.attempt(&mut write, DamageScope::Batch)
    }

    fn count(writer: &Writer, co_value: &CoValueFixture) -> u64 {
        let stored =
            SqliteSchema::Reference.load(&writer.connection, co_value.id).unwrap().unwrap();
        stored.sessions.iter().map(|session| session.count).sum()
    }

    #[test]
    fn a_full_disk_fails_a_batch_as_a_whole_and_there_may_be_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
        append(&mut writer, &[co_value.create(vec![author.write(1, 20)])]).unwrap();
        let pages: i64 =
            writer.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        let limit = |writer: &Writer, pages: i64| {
            let set = |_: &rusqlite::Row<'_>| Ok(());
            writer.connection.pragma_update_and_check(None, "max_page_count", pages, set).unwrap();
        };
        limit(&writer, pages + 10);
        let before = author.clone();
        let batch = |author: &mut Author| {
            vec![
                co_value.extend(vec![author.write(1, 20)]),
                co_value.extend(vec![author.write(1, 200_000)]),
            ]
        };
        for _ in 0..3 {
            let error = append(&mut writer, &batch(&mut before.clone())).unwrap_err();
            assert!(matches!(error, StorageError::Full { .. }), "{error:?}");
            assert_eq!(count(&writer, &co_value), 1, "nothing of the batch is stored");
        }
        append(&mut writer, &[co_value.extend(vec![author.write(1, 20)])]).unwrap();
        limit(&writer, i64::from(i32::MAX));
        let outcomes = append(&mut writer, &batch(&mut author)).unwrap();
        assert!(outcomes.iter().all(Outcome::is_complete));
        assert_eq!(count(&writer, &co_value), 4);
    }

    #[test]
    fn commits_wait_for_the_disk_again_after_an_erasure() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
        append(&mut writer, &[co_value.create(vec![author.write(1, 20)])]).unwrap();
        let tombstone = Author::deleting(2).delete(co_value.id);
        append(&mut writer, &[co_value.tombstone(tombstone)]).unwrap();
        assert_eq!(writer.erase(co_value.id).unwrap().transactions, 1);
        let synchronous = |writer: &Writer| -> i64 {
            writer.connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap()
        };
        assert_eq!(synchronous(&writer), 2, "SQLite's number for FULL");
        writer.vacuum();
        assert_eq!(synchronous(&writer), 2);
    }

    #[test]
    fn a_lock_that_another_process_holds_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        writer.connection.busy_timeout(Duration::from_millis(1)).unwrap();
        let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
        append(&mut writer, &[co_value.create(vec![author.write(1, 20)])]).unwrap();
        let other = Connection::open(dir.path().join("storage.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let late = vec![co_value.extend(vec![author.write(1, 20)])];
        let error = append(&mut writer, &late).unwrap_err();
        assert!(matches!(error, StorageError::Locked { .. }), "{error:?}");
        other.execute_batch("ROLLBACK").unwrap();
        append(&mut writer, &late).unwrap();
        assert_eq!(count(&writer, &co_value), 2);
    }
}
