//! The tables, and the numbers that identify a file with them.

use std::path::Path;

use downbeat_storage::StorageError;
use rusqlite::{Connection, TransactionBehavior};

use crate::error::FileError;
use crate::schema::SqliteSchema;
use crate::totals;

/// The `application_id` of a file: "Dnbt".
pub(crate) const APPLICATION_ID: i32 = i32::from_be_bytes(*b"Dnbt");

/// The version of the tables.
const VERSION: u32 = 1;

/// `user_version` is the version of the tables plus this. So it is greater than any version of the
/// reference, which therefore neither migrates the file nor adds its tables to it.
const VERSION_BASE: u32 = 1_000;

/// Bytes of a page. Half of SQLite's default, because an edit changes few bytes, and the log beside
/// the file takes whole pages. With even smaller pages everything else costs more.
const PAGE_SIZE: u32 = 2_048;

/// The tables. Those that the reference also has, under the same name, hold the same.
const TABLES: &str = "
    CREATE TABLE coValues (
        rowID INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        hash INTEGER NOT NULL,
        state BLOB NOT NULL,
        header BLOB NOT NULL
    );
    CREATE INDEX coValuesByHash ON coValues (hash);
    CREATE TABLE sessions (
        coValue INTEGER NOT NULL,
        sessionID TEXT NOT NULL,
        ses INTEGER NOT NULL,
        head BLOB NOT NULL,
        PRIMARY KEY (coValue, sessionID)
    ) WITHOUT ROWID;
    CREATE TABLE log (
        place INTEGER PRIMARY KEY,
        record BLOB NOT NULL
    );
    CREATE TABLE tails (
        ses INTEGER PRIMARY KEY,
        record BLOB NOT NULL
    );
    CREATE TABLE deletedCoValues (
        coValueID TEXT PRIMARY KEY,
        status INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE unsynced_covalues (
        co_value_id TEXT NOT NULL,
        peer_id TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (co_value_id, peer_id)
    ) WITHOUT ROWID;
";

/// Refuses a file of a newer version, without changing it. The file has [`APPLICATION_ID`].
pub(crate) fn check(connection: &Connection, file: &Path) -> Result<(), StorageError> {
    let found: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(
            |error: rusqlite::Error| FileError::from(error).into_storage_error("open", file),
        )?;
    let path = file.to_owned();
    match u32::try_from(found).ok().and_then(|found| found.checked_sub(VERSION_BASE)) {
        Some(VERSION) => Ok(()),
        Some(found) if found > VERSION => {
            Err(StorageError::NewerFormat { path, found, supported: VERSION })
        }
        _ => {
            let reason = format!("its application_id is Downbeat's, but not its version {found}");
            Err(StorageError::NotAStore { path, reason })
        }
    }
}

/// Sets what cannot be changed once the file has content.
pub(crate) fn set_up_new_file(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "page_size", PAGE_SIZE)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")
}

/// Creates the tables in an empty file.
pub(crate) fn migrate(connection: &mut Connection, file: &Path) -> Result<(), StorageError> {
    let storage_error =
        |error: rusqlite::Error| FileError::from(error).into_storage_error("create", file);
    // Another process may have created them since the file was found empty.
    let write = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let write = write.map_err(storage_error)?;
    match SqliteSchema::of(&write, file)? {
        Some(SqliteSchema::Native) => return Ok(()),
        Some(SqliteSchema::Reference) => {
            let reason = "another program has just created its tables in it".to_owned();
            return Err(StorageError::NotAStore { path: file.to_owned(), reason });
        }
        None => {}
    }
    write
        .execute_batch(TABLES)
        .and_then(|()| write.execute_batch(totals::TABLE))
        .and_then(|()| write.pragma_update(None, "application_id", APPLICATION_ID))
        .and_then(|()| write.pragma_update(None, "user_version", VERSION_BASE + VERSION))
        .and_then(|()| write.commit())
        .map_err(storage_error)
}
