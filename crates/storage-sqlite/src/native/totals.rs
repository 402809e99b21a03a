//! Counts the content of the tables.

use downbeat_protocol::{CoValueId, SessionId};
use rusqlite::{Connection, Row};

use super::co_values::{Head, head_row};
use crate::error::FileError;
use crate::read::text;
use crate::totals::{MAX_LOG, Totals};

/// The real totals. Reads the heads of all sessions only if the counts that are quick to get differ
/// from `row`, which is damage. Heads that are damaged themselves count as empty.
pub(crate) fn count(connection: &Connection, row: Totals) -> Result<Totals, FileError> {
    let quick = connection.query_row(
        "SELECT (SELECT COUNT(*) FROM coValues), (SELECT COUNT(*) FROM deletedCoValues),
            (SELECT COUNT(*) FROM sessions)",
        [],
        |counts| {
            let (co_values, deleted) = (counts.get(0)?, counts.get(1)?);
            Ok(Totals { co_values, deleted, sessions: counts.get(2)?, ..row })
        },
    )?;
    if quick == row && row.transactions >= row.sessions && row.bytes >= row.transactions {
        return Ok(row);
    }
    let mut counted = Totals { transactions: 0, bytes: 0, ..quick };
    let mut query = connection.prepare(
        "SELECT c.id, s.sessionID, s.ses, s.head FROM sessions s
        JOIN coValues c ON c.rowID = s.coValue",
    )?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let number = |count| i64::try_from(count).ok().filter(|count| *count <= MAX_LOG);
        let Some(head) = head_of(row) else { continue };
        if let (Some(transactions), Some(bytes)) = (number(head.count), number(head.bytes)) {
            counted.transactions += transactions;
            counted.bytes += bytes;
        }
    }
    Ok(counted)
}

/// The head of a session, unless it is damaged.
fn head_of(row: &Row<'_>) -> Option<Head> {
    let id = CoValueId::parse(text(row, 0).ok()?).ok()?;
    let session = SessionId::parse(text(row, 1).ok()?).ok()?;
    head_row(id, &session, row, 2).ok()
}
