//! The tables: those of the reference server in its current version, and two of this crate.
//!
//! The versions of the reference, and the changes of each:
//!
//! | `user_version` | change |
//! |---|---|
//! | 1 | `coValues`, `sessions` and `transactions`; transactions are numbered from 1 |
//! | 2 | transactions are numbered from 0 |
//! | 3 | `signatureAfter`, and `bytesSinceLastSignature` in `sessions` |
//! | 4 | `unsynced_covalues` |
//! | 5 | `deletedCoValues` |
//! | 6 | `storageReconciliationLocks` |
//! | 7 | without `expiresAt` in `storageReconciliationLocks` |
//!
//! The reference commits a migration and its number separately, so a file may be ahead of its
//! number. Each step here checks the state of the file, and all steps are one transaction.

use std::path::Path;

use downbeat_storage::StorageError;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::error::FileError;
use crate::totals;

/// The reference's newest version, with `cojson` 0.20.19.
const VERSION: u32 = 7;

/// The version in which transactions were numbered from 1. The newest release of the reference also
/// starts a new file with this number, and migrates it immediately.
const VERSION_NUMBERED_FROM_ONE: u32 = 1;

/// The reference's tables and indexes as they are in the newest version.
const REFERENCE: &str = "
    CREATE TABLE IF NOT EXISTS coValues (
        rowID INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        header TEXT NOT NULL UNIQUE
    );
    CREATE INDEX IF NOT EXISTS coValuesByID ON coValues (id);
    CREATE TABLE IF NOT EXISTS sessions (
        rowID INTEGER PRIMARY KEY,
        coValue INTEGER NOT NULL,
        sessionID TEXT NOT NULL,
        lastIdx INTEGER,
        lastSignature TEXT,
        bytesSinceLastSignature INTEGER,
        UNIQUE (sessionID, coValue)
    );
    CREATE INDEX IF NOT EXISTS sessionsByCoValue ON sessions (coValue);
    CREATE TABLE IF NOT EXISTS transactions (
        ses INTEGER,
        idx INTEGER,
        tx TEXT NOT NULL,
        PRIMARY KEY (ses, idx)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS signatureAfter (
        ses INTEGER,
        idx INTEGER,
        signature TEXT NOT NULL,
        PRIMARY KEY (ses, idx)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS unsynced_covalues (
        rowID INTEGER PRIMARY KEY,
        co_value_id TEXT NOT NULL,
        peer_id TEXT NOT NULL,
        UNIQUE (co_value_id, peer_id)
    );
    CREATE INDEX IF NOT EXISTS idx_unsynced_covalues_co_value_id
        ON unsynced_covalues (co_value_id);
    CREATE TABLE IF NOT EXISTS deletedCoValues (
        coValueID TEXT PRIMARY KEY,
        status INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS deletedCoValuesByStatus ON deletedCoValues (status);
    CREATE TABLE IF NOT EXISTS storageReconciliationLocks (
        key TEXT PRIMARY KEY,
        holderSessionId TEXT NOT NULL,
        acquiredAt INTEGER NOT NULL,
        lastProcessedOffset INTEGER NOT NULL DEFAULT 0,
        releasedAt INTEGER
    ) WITHOUT ROWID;
";

/// A table of this crate, beside that of the totals. The reference ignores them, and no content is
/// lost if they are dropped. See `extension` and `totals`.
const OWN: &str = "
    CREATE TABLE IF NOT EXISTS downbeat_extensions (
        ses INTEGER NOT NULL,
        idx INTEGER NOT NULL,
        owner INTEGER NOT NULL,
        after INTEGER NOT NULL,
        signature TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (ses, idx)
    ) WITHOUT ROWID;
";

/// The tables of the first version, each with a column. They identify a file of the reference.
const FIRST_TABLES: [(&str, &str); 3] =
    [("coValues", "header"), ("sessions", "sessionID"), ("transactions", "tx")];

/// Queries that must work after the migration. A table with the right name may belong to another
/// program.
const COLUMNS: [&str; 9] = [
    "SELECT rowID, id, header FROM coValues",
    "SELECT rowID, coValue, sessionID, lastIdx, lastSignature, bytesSinceLastSignature FROM sessions",
    "SELECT ses, idx, tx FROM transactions",
    "SELECT ses, idx, signature FROM signatureAfter",
    "SELECT rowID, co_value_id, peer_id FROM unsynced_covalues",
    "SELECT coValueID, status FROM deletedCoValues",
    "SELECT key, holderSessionId, acquiredAt, lastProcessedOffset, releasedAt
        FROM storageReconciliationLocks",
    "SELECT ses, idx, owner, after, signature, checksum FROM downbeat_extensions",
    "SELECT row, coValues, deleted, sessions, transactions, bytes FROM downbeat_totals",
];

/// Refuses a file that is no store, without changing it. Returns whether it has tables.
pub(crate) fn check(connection: &Connection, file: &Path) -> Result<bool, StorageError> {
    let refuse = |reason: String| StorageError::NotAStore { path: file.to_owned(), reason };
    let storage_error =
        |error: rusqlite::Error| FileError::from(error).into_storage_error("open", file);
    let found = user_version(connection).map_err(storage_error)?;
    if found > VERSION {
        let path = file.to_owned();
        return Err(StorageError::NewerFormat { path, found, supported: VERSION });
    }
    let tables = count_tables(connection).map_err(storage_error)?;
    if tables == 0 && found == 0 {
        return Ok(false);
    }
    for (table, column) in FIRST_TABLES {
        if !has_column(connection, table, column).map_err(storage_error)? {
            return Err(refuse(format!("it is a database without the table {table} ({column})")));
        }
    }
    Ok(true)
}

/// Creates the tables, or migrates them to the newest version.
pub(crate) fn migrate(connection: &mut Connection, file: &Path) -> Result<(), StorageError> {
    let storage_error =
        |error: rusqlite::Error| FileError::from(error).into_storage_error("migrate", file);
    // Another process may have migrated the file since the check.
    let write = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let write = write.map_err(storage_error)?;
    check(&write, file)?;
    migrate_tables(&write).map_err(storage_error)?;
    for columns in COLUMNS {
        write.prepare(columns).map_err(|error| StorageError::NotAStore {
            path: file.to_owned(),
            reason: error.to_string(),
        })?;
    }
    write.commit().map_err(storage_error)
}

fn migrate_tables(write: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    let found = user_version(write)?;
    write.execute_batch(REFERENCE)?;
    write.execute_batch(OWN)?;
    write.execute_batch(totals::TABLE)?;
    if found == VERSION_NUMBERED_FROM_ONE {
        number_from_zero(write)?;
    }
    if !has_column(write, "sessions", "bytesSinceLastSignature")? {
        write.execute_batch("ALTER TABLE sessions ADD COLUMN bytesSinceLastSignature INTEGER")?;
    }
    if has_column(write, "storageReconciliationLocks", "expiresAt")? {
        write.execute_batch("ALTER TABLE storageReconciliationLocks DROP COLUMN expiresAt")?;
    }
    if found < VERSION {
        write.pragma_update(None, "user_version", VERSION)?;
    }
    Ok(())
}

/// Renumbers the logs that begin with 1 and end with their count. The number of a row is part of
/// its key, so the rows first get negative numbers, which no row has.
fn number_from_zero(write: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    write.execute_batch(
        "UPDATE transactions SET idx = -idx WHERE idx > 0 AND ses IN (
            SELECT s.rowID FROM sessions s
            WHERE EXISTS (SELECT 1 FROM transactions t WHERE t.ses = s.rowID AND t.idx = s.lastIdx)
            AND NOT EXISTS (SELECT 1 FROM transactions t WHERE t.ses = s.rowID AND t.idx = 0)
        );
        UPDATE transactions SET idx = -idx - 1 WHERE idx < 0;",
    )
}

fn user_version(connection: &Connection) -> Result<u32, rusqlite::Error> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    // The reference uses no negative numbers, so one counts as too new.
    Ok(u32::try_from(version).unwrap_or(u32::MAX))
}

fn count_tables(connection: &Connection) -> Result<i64, rusqlite::Error> {
    let query = "SELECT COUNT(*) FROM sqlite_schema
        WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    connection.query_row(query, [], |row| row.get(0))
}

fn has_column(connection: &Connection, table: &str, column: &str) -> Result<bool, rusqlite::Error> {
    let query = "SELECT COUNT(*) FROM pragma_table_info(?1) WHERE name = ?2";
    let count: i64 = connection.query_row(query, [table, column], |row| row.get(0))?;
    Ok(count > 0)
}
