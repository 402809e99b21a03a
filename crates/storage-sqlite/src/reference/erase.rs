//! Erases the content that a tombstone hides, a bounded amount at a time.
//!
//! A log is shortened from its end, and only to a length with a stored signature. So the file is
//! always valid, also for the reference, which may be the next to open it.

use downbeat_protocol::{CoValueId, SessionId};
use downbeat_storage::Erased;
use rusqlite::{Connection, OptionalExtension};

use super::changes::Changes;
use super::extension::owner;
use super::index::{self, SessionRow};
use crate::error::FileError;
use crate::read::awaits_erasure;

/// Transactions that one call removes at most, except for a longer extension at the end. Takes a
/// few milliseconds of the writer's time.
const MAX_TRANSACTIONS: u64 = 1_000;

impl Changes<'_> {
    /// See [`Storage::erase`](downbeat_storage::Storage::erase).
    pub(crate) fn erase(&mut self, id: CoValueId) -> Result<Erased, FileError> {
        let mut erased = Erased::default();
        let Some(co_value) = index::co_value(self.connection, id)? else { return Ok(erased) };
        if !awaits_erasure(self.connection, id)? {
            return Ok(erased);
        }
        self.remembered.forget();
        let sessions = index::all_sessions(self.connection, id, co_value.row)?;
        for session in sessions.iter().filter(|session| !session.stored.session.is_delete()) {
            let room = MAX_TRANSACTIONS.saturating_sub(erased.transactions);
            if room == 0 {
                erased.more = true;
                break;
            }
            let left = self.shorten(id, session, room, &mut erased)?;
            if left > 0 {
                erased.more = true;
                break;
            }
        }
        if !erased.more {
            let done = "UPDATE deletedCoValues SET status = 1 WHERE coValueID = ?1";
            self.connection.prepare_cached(done)?.execute([id.as_str()])?;
        }
        Ok(erased)
    }

    /// Removes at least `room` transactions from the end of a log, or all. Returns the number of
    /// transactions that are left.
    fn shorten(
        &mut self,
        id: CoValueId,
        session: &SessionRow,
        room: u64,
        erased: &mut Erased,
    ) -> Result<u64, FileError> {
        let SessionRow { row, stored, .. } = session;
        let end = end_before(self.connection, id, *row, &stored.session, stored.count, room)?;
        let left = end.as_ref().map_or(0, |(left, _)| *left);
        let query = "SELECT IFNULL(SUM(octet_length(tx)), 0) FROM transactions
            WHERE ses = ?1 AND idx >= ?2 AND idx < ?3";
        let bytes: i64 = self
            .connection
            .prepare_cached(query)?
            .query_row((row, left, stored.count), |sum| sum.get(0))?;
        for delete in [
            "DELETE FROM transactions WHERE ses = ?1 AND idx >= ?2",
            "DELETE FROM signatureAfter WHERE ses = ?1 AND idx >= ?2",
            "DELETE FROM downbeat_extensions WHERE ses = ?1 AND idx >= ?2",
        ] {
            self.connection.prepare_cached(delete)?.execute((row, left))?;
        }
        if let Some((left, signature)) = end {
            let shorten = "UPDATE sessions SET lastIdx = ?2, lastSignature = ?3,
                bytesSinceLastSignature = 0 WHERE rowID = ?1";
            self.connection.prepare_cached(shorten)?.execute((row, left, signature))?;
        } else {
            let delete = "DELETE FROM sessions WHERE rowID = ?1";
            self.connection.prepare_cached(delete)?.execute([row])?;
            self.totals.sessions -= 1;
        }
        let transactions = stored.count - left;
        erased.transactions += transactions;
        erased.bytes += u64::try_from(bytes).unwrap_or(0);
        self.totals.transactions -= i64::try_from(transactions).unwrap_or(i64::MAX);
        self.totals.bytes -= bytes;
        Ok(left)
    }
}

/// The greatest length with a signature that is shorter than `count` by at least `room`; `None` if
/// there is none.
fn end_before(
    connection: &Connection,
    id: CoValueId,
    row: i64,
    session: &SessionId,
    count: u64,
    room: u64,
) -> Result<Option<(u64, String)>, FileError> {
    let Some(most) = count.checked_sub(room) else { return Ok(None) };
    let mut query = connection.prepare_cached(
        "SELECT idx + 1, signature FROM signatureAfter WHERE ses = ?1 AND idx < ?2
        UNION ALL
        SELECT idx + 1, signature FROM downbeat_extensions
            WHERE ses = ?1 AND idx < ?2 AND owner = ?3
        ORDER BY 1 DESC LIMIT 1",
    )?;
    let end =
        query.query_row((row, most, owner(id, session)), |row| Ok((row.get(0)?, row.get(1)?)));
    Ok(end.optional()?)
}
