//! The amount of stored data, in a row that every transaction of the writer updates.
//!
//! Data that the reference has written is not counted in that row. So an audit corrects it, once
//! after opening and whenever another process has written. The audit compares the row with counts
//! that are quick to get, and counts everything only if they differ.

use std::ops::{AddAssign, Sub};

use downbeat_storage::StoreStats;
use rusqlite::Connection;

use crate::error::FileError;

/// The longest log that is counted, far longer than any real one. A longer one is damage, and the
/// sum of a few such logs would be no integer.
pub(crate) const MAX_LOG: i64 = 1 << 40;

/// The table of the row, and the row.
pub(crate) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS downbeat_totals (
        row INTEGER PRIMARY KEY CHECK (row = 1),
        coValues INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        sessions INTEGER NOT NULL,
        transactions INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    );
    INSERT OR IGNORE INTO downbeat_totals VALUES (1, 0, 0, 0, 0, 0);
";

/// Totals, or a change of totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub(crate) co_values: i64,
    pub(crate) deleted: i64,
    pub(crate) sessions: i64,
    /// Sum of the counts of the sessions.
    pub(crate) transactions: i64,
    /// Bytes of the transactions in the file.
    pub(crate) bytes: i64,
}

impl Totals {
    /// Reads the row.
    pub(crate) fn read(connection: &Connection) -> Result<Self, FileError> {
        let mut query = connection.prepare_cached(
            // A damaged value counts as any number, as in `write`. The audit corrects it.
            "SELECT CAST(coValues AS INTEGER), CAST(deleted AS INTEGER),
                CAST(sessions AS INTEGER), CAST(transactions AS INTEGER), CAST(bytes AS INTEGER)
            FROM downbeat_totals",
        )?;
        Ok(query.query_row([], |row| {
            Ok(Self {
                co_values: row.get(0)?,
                deleted: row.get(1)?,
                sessions: row.get(2)?,
                transactions: row.get(3)?,
                bytes: row.get(4)?,
            })
        })?)
    }

    /// Adds this to the row.
    pub(crate) fn write(self, connection: &Connection) -> Result<(), FileError> {
        let mut update = connection.prepare_cached(
            "UPDATE downbeat_totals SET coValues = CAST(coValues AS INTEGER) + ?1,
                deleted = CAST(deleted AS INTEGER) + ?2, sessions = CAST(sessions AS INTEGER) + ?3,
                transactions = CAST(transactions AS INTEGER) + ?4,
                bytes = CAST(bytes AS INTEGER) + ?5",
        )?;
        let Self { co_values, deleted, sessions, transactions, bytes } = self;
        update.execute([co_values, deleted, sessions, transactions, bytes])?;
        Ok(())
    }

    pub(crate) fn stats(self, disk_bytes: Option<u64>) -> StoreStats {
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        StoreStats {
            co_values: count(self.co_values),
            deleted: count(self.deleted),
            sessions: count(self.sessions),
            transactions: count(self.transactions),
            transaction_bytes: count(self.bytes),
            disk_bytes,
        }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.co_values += other.co_values;
        self.deleted += other.deleted;
        self.sessions += other.sessions;
        self.transactions += other.transactions;
        self.bytes += other.bytes;
    }
}

impl Sub for Totals {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            co_values: self.co_values.saturating_sub(other.co_values),
            deleted: self.deleted.saturating_sub(other.deleted),
            sessions: self.sessions.saturating_sub(other.sessions),
            transactions: self.transactions.saturating_sub(other.transactions),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}
