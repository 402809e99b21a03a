//! Erases the content that a tombstone hides, a bounded amount at a time.
//!
//! A log is shortened from its end, and only to a length with a stored signature. So the file is
//! always valid, also for the reference, which may be the next to open it.

use downbeat_protocol::{CoValueId, SessionId};
use downbeat_storage::{Damage, Erased};
use rusqlite::{Connection, OptionalExtension};

use crate::draft::{DamageScope, Draft};
use crate::error::FileError;
use crate::extension::owner;
use crate::index::{self, SessionRow};

/// Transactions that one call removes at most, except for a longer extension at the end. Takes a
/// few milliseconds of the writer's time.
const MAX_TRANSACTIONS: u64 = 1_000;

impl Draft<'_> {
    /// See [`Storage::erase`](downbeat_storage::Storage::erase). The inner error is damage that
    /// prevents erasing.
    pub(crate) fn erase(
        &mut self,
        id: CoValueId,
        scope: DamageScope,
    ) -> Result<Result<Erased, Damage>, FileError> {
        if scope == DamageScope::Batch {
            let erased = self.erase_some(id).map_err(|error| error.while_reading(id));
            return erased.map(Ok);
        }
        self.in_savepoint(id, |draft| draft.erase_some(id))
    }

    fn erase_some(&mut self, id: CoValueId) -> Result<Erased, FileError> {
        self.damaged.refuse(id)?;
        let mut erased = Erased::default();
        let Some(co_value) = index::co_value(self.connection, id)? else { return Ok(erased) };
        if !is_pending(self.connection, id)? {
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

/// Whether there is a tombstone with content that is not erased yet.
fn is_pending(connection: &Connection, id: CoValueId) -> Result<bool, FileError> {
    let query = "SELECT 1 FROM deletedCoValues WHERE coValueID = ?1 AND status = 0";
    Ok(connection.prepare_cached(query)?.exists([id.as_str()])?)
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
