//! Counts the content of the tables.

use rusqlite::Connection;

use crate::error::FileError;
use crate::totals::{MAX_LOG, Totals};

/// The real totals. Reads all transactions only if the counts that are quick to get differ from
/// `row`.
pub(crate) fn count(connection: &Connection, row: Totals) -> Result<Totals, FileError> {
    let mut counted = connection.query_row(
        "SELECT (SELECT COUNT(*) FROM coValues),
            (SELECT COUNT(*) FROM deletedCoValues d
                WHERE EXISTS (SELECT 1 FROM coValues c WHERE c.id = d.coValueID)),
            COUNT(*), IFNULL(SUM(lastIdx), 0) FROM sessions
            WHERE typeof(lastIdx) = 'integer' AND lastIdx BETWEEN 1 AND ?1",
        [MAX_LOG],
        |counts| {
            Ok(Totals {
                co_values: counts.get(0)?,
                deleted: counts.get(1)?,
                sessions: counts.get(2)?,
                transactions: counts.get(3)?,
                bytes: row.bytes,
            })
        },
    )?;
    if counted != row {
        let query = "SELECT IFNULL(SUM(octet_length(tx)), 0) FROM transactions";
        counted.bytes = connection.query_row(query, [], |sum| sum.get(0))?;
    }
    Ok(counted)
}
