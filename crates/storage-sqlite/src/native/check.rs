//! Compares `coValues` with its index. See [`crate::check`].

use downbeat_protocol::CoValueId;
use rusqlite::{Connection, Row};

use super::co_values;
use crate::check::{Damaged, PART, Part, mark};
use crate::error::FileError;
use crate::read::text;

/// The parts of the check.
pub(crate) const PASSES: [Part; 1] = [of_co_values];

/// Looks up CoValues of the table by their ids, as reading and writing do.
fn of_co_values(
    connection: &Connection,
    damaged: &Damaged,
    after: i64,
) -> Result<Option<i64>, FileError> {
    let mut query = connection.prepare_cached(
        "SELECT rowID, id FROM coValues NOT INDEXED WHERE rowID > ?1 ORDER BY rowID LIMIT ?2",
    )?;
    let mut rows = query.query((after, PART))?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        last = last.max(Some(number));
        if !is_found(connection, number, row) {
            mark(connection, damaged, number)?;
        }
    }
    Ok(last)
}

/// Whether a row is found by its id. A reader that finds it finds all other damage by itself.
fn is_found(connection: &Connection, number: i64, row: &Row<'_>) -> bool {
    let Some(id) = text(row, 1).ok().and_then(|id| CoValueId::parse(id).ok()) else {
        return false;
    };
    match co_values::co_value(connection, id) {
        Ok(found) => found.is_some_and(|found| found.row == number),
        Err(error) => error.as_damage(id).is_some(),
    }
}
