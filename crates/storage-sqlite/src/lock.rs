//! Keeps other processes from writing to a file that is copied.

use std::path::Path;
use std::time::Duration;

use downbeat_storage::StorageError;
use rusqlite::{Connection, OpenFlags};

use crate::connection;
use crate::error::FileError;

/// Longest wait for a process that has the file open. It may be about to end.
const PATIENCE: Duration = Duration::from_millis(500);

/// Keeps other connections, also those of other processes, from writing to a file. They can still
/// read it.
///
/// An open [`SqliteStorage`](crate::SqliteStorage) of the file cannot write either, and must be
/// closed after this is dropped.
#[derive(Debug)]
pub struct WriteLock {
    /// In a transaction that writes nothing. Dropping it rolls back.
    _connection: Connection,
}

impl WriteLock {
    /// Locks a file. Blocks while another transaction writes, for a few seconds at most.
    ///
    /// # Errors
    ///
    /// [`StorageError::Locked`] if another connection does not stop writing, and the errors of
    /// [`SqliteStorage::open`](crate::SqliteStorage::open).
    pub fn acquire(file: impl AsRef<Path>) -> Result<Self, StorageError> {
        let connection = open(file.as_ref())?;
        begin(&connection, file.as_ref())?;
        Ok(Self { _connection: connection })
    }

    /// Checks that nothing else has the file open, in this process or another. Blocks for half a
    /// second at most.
    ///
    /// Works for files with a write-ahead log, which all open connections keep locked. A process
    /// that uses the file without one is found only while it uses the file.
    ///
    /// # Errors
    ///
    /// [`StorageError::Locked`] if another connection has it open, and the errors of
    /// [`SqliteStorage::open`](crate::SqliteStorage::open).
    pub fn require_unused(file: impl AsRef<Path>) -> Result<(), StorageError> {
        let file = file.as_ref();
        let connection = open(file)?;
        let error =
            |error: rusqlite::Error| FileError::from(error).into_storage_error("open", file);
        connection.busy_timeout(PATIENCE).map_err(error)?;
        // Set before the first access to the log, this makes SQLite lock the whole file.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(error)?;
        begin(&connection, file)
    }
}

fn open(file: &Path) -> Result<Connection, StorageError> {
    let io_error = |error| StorageError::io(format!("cannot open {}", file.display()), error);
    // SQLite gives some relative names a special meaning.
    let path = std::path::absolute(file).map_err(io_error)?;
    connection::open(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

fn begin(connection: &Connection, file: &Path) -> Result<(), StorageError> {
    connection
        .execute_batch("BEGIN IMMEDIATE")
        .map_err(|error| FileError::from(error).into_storage_error("open", file))
}
