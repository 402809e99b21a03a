//! Erases the content that a tombstone hides, a bounded amount at a time.

use downbeat_protocol::CoValueId;
use downbeat_storage::Erased;

use super::changes::Changes;
use super::co_values::{self, Head};
use super::record::place;
use crate::error::FileError;
use crate::read::awaits_erasure;

/// Runs that one call removes at most. Takes a few milliseconds of the writer's time.
const MAX_RECORDS: usize = 128;

/// Bytes of records after which one call stops: 4,096 pages, which are all read.
const MAX_BYTES: usize = 8 << 20;

/// What one call may still remove.
struct Budget {
    records: usize,
    bytes: usize,
}

impl Changes<'_> {
    /// See [`Storage::erase`](downbeat_storage::Storage::erase). The transactions of a session
    /// count as erased with the last of its records.
    pub(crate) fn erase(&mut self, id: CoValueId) -> Result<Erased, FileError> {
        let mut erased = Erased::default();
        if !awaits_erasure(self.connection, id)? {
            return Ok(erased);
        }
        let Some(found) = co_values::all_sessions(self.connection, id)? else { return Ok(erased) };
        let mut co_value = found.co_value;
        let mut budget = Budget { records: MAX_RECORDS, bytes: MAX_BYTES };
        for (session, head) in found.sessions {
            if session.is_delete() {
                continue;
            }
            if !self.shorten(head, &mut budget)? {
                erased.more = true;
                break;
            }
            let delete = "DELETE FROM sessions WHERE coValue = ?1 AND sessionID = ?2";
            self.connection.prepare_cached(delete)?.execute((co_value.row, session.as_str()))?;
            co_value.state.sessions -= 1;
            erased.transactions += head.count;
            erased.bytes += head.bytes;
            self.totals.sessions -= 1;
            self.remembered.forget_session(co_value.row, session);
        }
        self.totals.transactions -= i64::try_from(erased.transactions).unwrap_or(i64::MAX);
        self.totals.bytes -= i64::try_from(erased.bytes).unwrap_or(i64::MAX);
        if co_value.state != found.co_value.state {
            self.update(id, co_value)?;
        }
        if !erased.more {
            let done = "UPDATE deletedCoValues SET status = 1 WHERE coValueID = ?1";
            self.connection.prepare_cached(done)?.execute([id.as_str()])?;
        }
        Ok(erased)
    }

    /// Removes runs from the start of a log, and its tail with the last of them. Returns whether all are removed.
    fn shorten(&self, head: Head, budget: &mut Budget) -> Result<bool, FileError> {
        let (first, last) = (place(head.ses, 0), place(head.ses, head.count));
        // The length of a record is known without reading all of it.
        let mut query = self.connection.prepare_cached(
            "SELECT place, length(record) FROM log WHERE place BETWEEN ?1 AND ?2 ORDER BY place",
        )?;
        let mut rows = query.query((first, last))?;
        let mut end: Option<i64> = None;
        let mut complete = true;
        while let Some(row) = rows.next()? {
            if budget.records == 0 || budget.bytes == 0 {
                complete = false;
                break;
            }
            end = row.get(0)?;
            let bytes: usize = row.get(1)?;
            budget.records -= 1;
            budget.bytes = budget.bytes.saturating_sub(bytes);
        }
        drop(rows);
        let delete = "DELETE FROM log WHERE place BETWEEN ?1 AND ?2";
        self.connection.prepare_cached(delete)?.execute((first, end))?;
        if complete {
            let delete = "DELETE FROM tails WHERE ses = ?1";
            self.connection.prepare_cached(delete)?.execute([head.ses])?;
        }
        Ok(complete)
    }
}
