//! Connections to the file: one for writing, and a few for reading.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use downbeat_storage::files::{FileIdentity, sync_names};
use downbeat_storage::{Durability, StorageError};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tracing::warn;

use crate::error::FileError;
use crate::options::SqliteOptions;
use crate::schema::SqliteSchema;

/// Reader threads. Most reads are served from memory, so few threads are busy. More would only wait
/// for the same disk, and each has its own cache.
pub(crate) const MAX_READS: usize = 4;

/// Longest wait for another process that writes. After it the store counts as locked. Transactions
/// of the reference take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of pages in the log beside the file after which SQLite moves them into the file. More than
/// SQLite's default of 1,000 pages, because each move costs two flushes of the disk.
const CHECKPOINT_BYTES: u32 = 16 << 20;

/// Length to which SQLite truncates a longer log, in bytes.
const LOG_BYTES: u32 = 64 << 20;

/// Cached statements per connection. More than there are in this crate.
const STATEMENTS: usize = 64;

/// The identities of the file and of the log beside it.
///
/// SQLite goes on writing to files that have lost their names. If only the log has lost its name,
/// its content is lost as well for the next process.
#[derive(Debug, Clone)]
pub(crate) struct FileIdentities {
    file: FileIdentity,
    log: FileIdentity,
}

impl FileIdentities {
    /// The identities of a file with an open connection, which keeps both files open.
    pub(crate) fn of(file: &Path) -> Result<Self, StorageError> {
        Ok(Self { file: FileIdentity::of(file)?, log: FileIdentity::of(beside(file, "-wal"))? })
    }

    /// Checks that both are still at their paths.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.file.check()?;
        self.log.check()
    }
}

/// The path of a companion of the database file.
pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Creates the directory of a file, and those above it.
pub(crate) fn create_parent(file: &Path) -> Result<(), StorageError> {
    let Some(dir) = file.parent() else { return Ok(()) };
    fs::create_dir_all(dir)
        .map_err(|error| StorageError::io(format!("cannot create {}", dir.display()), error))
}

/// Opens the file for writing. Creates it if it is missing, and migrates it to the newest version.
pub(crate) fn open_writer(
    file: &Path,
    options: &SqliteOptions,
) -> Result<(Connection, SqliteSchema), StorageError> {
    create_parent(file)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut connection = open(file, flags)?;
    if connection.is_readonly("main").map_err(|error| storage_error("open", file, error))? {
        let action = format!("cannot write to {}", file.display());
        return Err(StorageError::io(action, io::ErrorKind::PermissionDenied.into()));
    }
    let found = SqliteSchema::of(&connection, file)?;
    let schema = found.unwrap_or(options.schema);
    if found.is_none() {
        let set_up = schema.set_up_new_file(&connection);
        set_up.map_err(|error| storage_error("create", file, error))?;
    }
    set_up_writer(&connection, options).map_err(|error| storage_error("open", file, error))?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(|error| storage_error("open", file, error))?;
    if mode != "wal" {
        let reason = format!("cannot use a write-ahead log with {}", file.display());
        return Err(StorageError::io(
            reason,
            io::Error::new(io::ErrorKind::Unsupported, "its file system does not support it"),
        ));
    }
    schema.migrate(&mut connection, file)?;
    // SQLite flushes the names in the directory of the file, but not that of the directory.
    sync_names(file)?;
    Ok((connection, schema))
}

fn set_up_writer(connection: &Connection, options: &SqliteOptions) -> Result<(), rusqlite::Error> {
    // With a write-ahead log, FULL flushes the log at every commit, and NORMAL only before its
    // pages are moved into the file. Both keep the file whole.
    let synchronous = match options.durability {
        Durability::Flushed => "FULL",
        Durability::Relaxed { .. } => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // On macOS, only this flush reaches the disk itself.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    let page_size: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_BYTES / page_size.max(1))?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    set_cache(connection, options.cache_bytes / 2)
}

fn open_reader(file: &Path, options: &SqliteOptions) -> Result<Connection, StorageError> {
    let connection = open(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection
        .pragma_update(None, "query_only", true)
        .and_then(|()| set_cache(&connection, options.cache_bytes / 2 / MAX_READS as u64))
        .map_err(|error| storage_error("open", file, error))?;
    Ok(connection)
}

/// Opens a connection, and sets the options that both kinds share.
pub(crate) fn open(file: &Path, flags: OpenFlags) -> Result<Connection, StorageError> {
    let connection = Connection::open_with_flags(file, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| cannot_open(file, error))?;
    connection
        .busy_timeout(BUSY_TIMEOUT)
        // Finds damage within pages, at little cost.
        .and_then(|()| connection.pragma_update(None, "cell_size_check", true))
        .and_then(|()| connection.pragma_update(None, "temp_store", "MEMORY"))
        // Otherwise SQLite compiles a statement again for each bound value, to look for a better
        // plan. That takes several times as long as a look-up.
        .and_then(|()| connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true))
        .map_err(|error| storage_error("open", file, error))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// SQLite does not say why a file cannot be opened, but the operating system does.
fn cannot_open(file: &Path, error: rusqlite::Error) -> StorageError {
    if error.sqlite_error_code() != Some(ErrorCode::CannotOpen) {
        return storage_error("open", file, error);
    }
    if file.is_dir() {
        let reason = "it is a directory".to_owned();
        return StorageError::NotAStore { path: file.to_owned(), reason };
    }
    let probe = fs::OpenOptions::new().read(true).write(true).open(file);
    let source = probe.err().unwrap_or_else(|| io::Error::other(error));
    StorageError::io(format!("cannot open {}", file.display()), source)
}

fn set_cache(connection: &Connection, bytes: u64) -> Result<(), rusqlite::Error> {
    // A negative number is in KiB.
    let kib = i64::try_from(bytes >> 10).unwrap_or(i64::MAX).max(1);
    connection.pragma_update(None, "cache_size", -kib)
}

fn storage_error(verb: &str, file: &Path, error: rusqlite::Error) -> StorageError {
    FileError::from(error).into_storage_error(verb, file)
}

/// A file, and the options for opening it.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    pub(crate) options: SqliteOptions,
    pub(crate) identities: FileIdentities,
}

/// A connection for reading, opened on first use.
#[derive(Debug)]
pub(crate) struct Reader {
    source: Arc<Source>,
    connection: Option<Connection>,
}

impl Reader {
    pub(crate) fn new(source: Arc<Source>) -> Self {
        Self { source, connection: None }
    }

    /// Reads from a snapshot: nothing changes between two queries, nor from one call to the next
    /// until [`Self::end_snapshot`].
    pub(crate) fn read<T>(
        &mut self,
        read: impl FnOnce(&Connection) -> Result<T, FileError>,
    ) -> Result<T, StorageError> {
        let Source { file, options, identities } = &*self.source;
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                // Another file may have taken its path.
                identities.check()?;
                none.insert(open_reader(file, options)?)
            }
        };
        begin(connection)
            .map_err(FileError::from)
            .and_then(|()| read(connection))
            .map_err(|error| error.into_storage_error("read", file))
    }

    /// Ends the snapshot, if there is one.
    pub(crate) fn end_snapshot(&mut self) {
        let end = |connection: &Connection| {
            if connection.is_autocommit() {
                return Ok(());
            }
            connection.prepare_cached("COMMIT")?.execute([]).map(drop)
        };
        if let Some(connection) = &self.connection
            && let Err(error) = end(connection)
        {
            // The connection would go on reading the old snapshot, and keep the log from shrinking.
            warn!(%error, "cannot end a snapshot; opening the file again");
            self.discard();
        }
    }

    /// Closes the connection. The next read opens another.
    pub(crate) fn discard(&mut self) {
        self.connection = None;
    }
}

/// Begins a snapshot if there is none. An error of the disk has ended the one before.
fn begin(connection: &Connection) -> Result<(), rusqlite::Error> {
    if connection.is_autocommit() {
        connection.prepare_cached("BEGIN")?.execute([])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    fn pragma(connection: &Connection, name: &str) -> String {
        let value: rusqlite::types::Value =
            connection.pragma_query_value(None, name, |row| row.get(0)).unwrap();
        match value {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn commits_are_flushed_unless_told_otherwise() {
        /// SQLite's numbers for FULL and NORMAL.
        const LEVELS: [&str; 2] = ["2", "1"];
        let relaxed = Durability::Relaxed { within: Duration::from_secs(1) };
        for (durability, level) in [Durability::Flushed, relaxed].into_iter().zip(LEVELS) {
            let dir = tempfile::tempdir().unwrap();
            let options = SqliteOptions::default().with_durability(durability);
            let (connection, _) = open_writer(&dir.path().join("storage.db"), &options).unwrap();
            assert_eq!(pragma(&connection, "synchronous"), level);
            assert_eq!(pragma(&connection, "journal_mode"), "wal");
        }
    }

    #[test]
    fn statements_are_compiled_once_whatever_is_bound_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let (file, options) = (dir.path().join("storage.db"), SqliteOptions::default());
        let (writer, _) = open_writer(&file, &options).unwrap();
        let reader = open_reader(&file, &options).unwrap();
        for connection in [writer, reader] {
            let query = "SELECT tx FROM transactions WHERE ses = ?1 AND idx >= ?2";
            let mut query = connection.prepare(query).unwrap();
            for session in 0..10 {
                assert!(!query.exists((session, 0)).unwrap());
                query.clear_bindings();
            }
            assert_eq!(query.get_status(StatementStatus::RePrepare), 0);
        }
    }

    #[test]
    fn a_reader_sees_one_snapshot_until_it_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (file, options) = (dir.path().join("storage.db"), SqliteOptions::default());
        let (writer, _) = open_writer(&file, &options).unwrap();
        let identities = FileIdentities::of(&file).unwrap();
        let mut reader = Reader::new(Arc::new(Source { file, options, identities }));
        let count = |reader: &mut Reader| -> i64 {
            let query = "SELECT COUNT(*) FROM deletedCoValues";
            reader.read(|file| Ok(file.query_row(query, [], |row| row.get(0))?)).unwrap()
        };
        assert_eq!(count(&mut reader), 0);
        writer.execute("INSERT INTO deletedCoValues VALUES ('co_z1', 0)", []).unwrap();
        assert_eq!(count(&mut reader), 0);
        reader.end_snapshot();
        assert_eq!(count(&mut reader), 1);
    }

    #[test]
    fn readers_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let (file, options) = (dir.path().join("storage.db"), SqliteOptions::default());
        drop(open_writer(&file, &options).unwrap());
        let reader = open_reader(&file, &options).unwrap();
        assert!(reader.execute("DELETE FROM coValues", []).is_err());
    }

    #[test]
    fn a_file_that_must_not_be_written_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (file, options) = (dir.path().join("storage.db"), SqliteOptions::default());
        drop(open_writer(&file, &options).unwrap());
        let mut permissions = fs::metadata(&file).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&file, permissions).unwrap();
        // The superuser may write to it all the same.
        if fs::OpenOptions::new().write(true).open(&file).is_err() {
            let error = open_writer(&file, &options).unwrap_err();
            assert!(matches!(error, StorageError::Io { .. }), "{error:?}");
        }
    }
}
