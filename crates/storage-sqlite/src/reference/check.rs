//! Compares `sessions` with its indexes. See [`crate::check`].

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension};
use tracing::error;

use crate::check::{Damaged, PART, Part, mark};
use crate::error::FileError;
use crate::read::text;

/// The parts of the check.
pub(crate) const PASSES: [Part; 2] = [of_sessions, of_co_values];

/// Looks up sessions of the table as reading and writing do.
fn of_sessions(
    connection: &Connection,
    damaged: &Damaged,
    after: i64,
) -> Result<Option<i64>, FileError> {
    let mut query = connection.prepare_cached(
        "SELECT rowID, coValue, sessionID FROM sessions NOT INDEXED
        WHERE rowID > ?1 ORDER BY rowID LIMIT ?2",
    )?;
    let mut rows = query.query((after, PART))?;
    let mut last = None;
    let mut by_co_value: HashMap<i64, Vec<i64>> = HashMap::new();
    while let Some(row) = rows.next()? {
        let session: i64 = row.get(0)?;
        last = last.max(Some(session));
        let Ok(co_value) = row.get::<_, i64>(1) else {
            error!(session, "the session of this row belongs to no CoValue");
            continue;
        };
        // A reader finds invalid text by itself.
        let found = match text(row, 2) {
            Ok(name) => by_name(connection, co_value, name),
            Err(_) => Ok(Some(session)),
        };
        if !matches!(found, Ok(Some(found)) if found == session) {
            mark(connection, damaged, co_value)?;
        }
        by_co_value.entry(co_value).or_default().push(session);
    }
    for (co_value, sessions) in by_co_value {
        // An index that cannot be read counts as empty.
        let found = by_index(connection, co_value).unwrap_or_default();
        if !sessions.iter().all(|session| found.contains(session)) {
            mark(connection, damaged, co_value)?;
        }
    }
    Ok(last)
}

/// Looks up the index entries of CoValues in the table. A damaged entry may name the session of
/// another CoValue.
fn of_co_values(
    connection: &Connection,
    damaged: &Damaged,
    after: i64,
) -> Result<Option<i64>, FileError> {
    let mut query = connection.prepare_cached(
        "SELECT rowID FROM coValues NOT INDEXED WHERE rowID > ?1 ORDER BY rowID LIMIT ?2",
    )?;
    let mut rows = query.query((after, PART))?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let co_value: i64 = row.get(0)?;
        last = last.max(Some(co_value));
        if !matches!(is_of_table(connection, co_value), Ok(true)) {
            mark(connection, damaged, co_value)?;
        }
    }
    Ok(last)
}

fn by_name(connection: &Connection, co_value: i64, name: &str) -> Result<Option<i64>, FileError> {
    let mut query = connection
        .prepare_cached("SELECT rowID FROM sessions WHERE coValue = ?1 AND sessionID = ?2")?;
    Ok(query.query_row((co_value, name), |row| row.get(0)).optional()?)
}

fn by_index(connection: &Connection, co_value: i64) -> Result<HashSet<i64>, FileError> {
    let mut query = connection.prepare_cached("SELECT rowID FROM sessions WHERE coValue = ?1")?;
    let rows = query.query_map([co_value], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether the table has all sessions that the index has for a CoValue.
fn is_of_table(connection: &Connection, co_value: i64) -> Result<bool, FileError> {
    let mut query = connection.prepare_cached(
        "SELECT 1 FROM sessions i LEFT JOIN sessions s NOT INDEXED ON s.rowID = i.rowID
        WHERE i.coValue = ?1 AND s.coValue IS NOT ?1",
    )?;
    Ok(!query.exists([co_value])?)
}
