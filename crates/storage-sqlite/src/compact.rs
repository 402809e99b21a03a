//! Compacts a file.

use std::fs;
use std::io;
use std::path::Path;

use downbeat_storage::{Compacted, Damage, StorageError};
use rusqlite::{Connection, OpenFlags};

use crate::connection::{self, beside};
use crate::error::FileError;
use crate::schema::SqliteSchema;

/// See [`SqliteStorage::compact`](crate::SqliteStorage::compact).
pub(crate) fn compact(file: &Path) -> Result<Compacted, StorageError> {
    // SQLite gives some relative names a special meaning.
    let file = &std::path::absolute(file).map_err(|error| open_error(file, error))?;
    fs::metadata(file).map_err(|error| open_error(file, error))?;
    let connection = connection::open(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    if SqliteSchema::of(&connection, file)?.is_none() {
        let (path, reason) = (file.clone(), "it is empty".to_owned());
        return Err(StorageError::NotAStore { path, reason });
    }
    let error = |error: rusqlite::Error| FileError::from(error).into_storage_error("compact", file);
    // The schema was read with another connection state: this one keeps the file to itself from its
    // first access on.
    drop(connection);
    let connection = connection::open(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    lock(&connection).map_err(error)?;
    let bytes_before = bytes_of(file);
    connection.pragma_update(None, "synchronous", "FULL").map_err(error)?;
    connection.pragma_update(None, "fullfsync", true).map_err(error)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true).map_err(error)?;
    // The copy can be larger than the memory.
    connection.pragma_update(None, "temp_store", "FILE").map_err(error)?;
    check(&connection, file)?;
    connection.execute_batch("VACUUM").map_err(error)?;
    // Moves the pages from the log into the file.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(error)?;
    connection.close().map_err(|(_, failed)| error(failed))?;
    Ok(Compacted::new(bytes_before, bytes_of(file)))
}

/// Locks the file against all other connections, until this one is closed.
fn lock(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update_and_check(None, "locking_mode", "exclusive", |_| Ok(()))?;
    // The lock is taken with the next access.
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")
}

/// Checks the structure of the file. A copy of a damaged one could lose rows in silence.
fn check(connection: &Connection, file: &Path) -> Result<(), StorageError> {
    let error = |error: rusqlite::Error| FileError::from(error).into_storage_error("check", file);
    let problem: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(error)?;
    if problem == "ok" {
        return Ok(());
    }
    let reason = format!("it is damaged, so it is not compacted: {problem}");
    Err(Damage::in_record(file.display().to_string(), reason).into())
}

/// The length of the file and its log.
fn bytes_of(file: &Path) -> u64 {
    let len = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    len(file) + len(&beside(file, "-wal"))
}

fn open_error(file: &Path, error: io::Error) -> StorageError {
    StorageError::io(format!("cannot open {}", file.display()), error)
}
