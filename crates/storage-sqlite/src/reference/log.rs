//! Reads the log of a session.

use bytes::{Bytes, BytesMut};
use downbeat_protocol::{CoValueId, Signature, Transaction};
use downbeat_storage::{Extension, Runs, StoredSession};
use rusqlite::{Connection, Row, Rows};

use super::extension::{ExtensionRow, checksum, owner};
use super::header::limits;
use super::index::{SessionRow, signature};
use crate::error::{FileError, in_session};
use crate::read::text;

/// The texts of small transactions share buffers of this size, in bytes.
const BUFFER: usize = 4 << 10;

/// Transactions for which memory is allocated in advance. Bounded, because a damaged file may state
/// any count.
const ROOM: usize = 64;

/// Reads a log beyond `have`. Returns whether there is budget for more.
pub(crate) fn read(
    connection: &Connection,
    id: CoValueId,
    session: &SessionRow,
    have: u64,
    runs: &mut Runs,
) -> Result<bool, FileError> {
    let SessionRow { row, stored, last } = session;
    let start = start_of_extension(connection, id, session, have)?;
    let range = (row, start, stored.count);
    let mut transactions = connection.prepare_cached(
        "SELECT idx, tx FROM transactions WHERE ses = ?1 AND idx >= ?2 AND idx < ?3 ORDER BY idx",
    )?;
    let mut checkpoints = connection.prepare_cached(
        "SELECT idx, signature FROM signatureAfter
        WHERE ses = ?1 AND idx >= ?2 AND idx < ?3 ORDER BY idx",
    )?;
    let mut extensions = connection.prepare_cached(
        "SELECT idx, owner, after, signature, checksum FROM downbeat_extensions
        WHERE ses = ?1 AND idx >= ?2 AND idx < ?3 ORDER BY idx",
    )?;
    let owner = owner(id, &stored.session);
    let checkpoints = checkpoints.query(range)?;
    // Most logs have one extension, which was read with the session.
    let last = last.as_ref().filter(|last| last.after <= start);
    let extensions = match last {
        Some(_) => None,
        None => Some(extensions.query(range)?),
    };
    let mut log = Log {
        id,
        stored,
        begin: start,
        read: Vec::with_capacity(last.map_or(0, |_| room(stored.count - start))),
        buffer: BytesMut::new(),
        checkpoints: RowCursor::new(checkpoints, |row| signature(id, &stored.session, row, 1)),
        extensions: extensions.map(|rows| {
            RowCursor::new(rows, |row| {
                if row.get::<_, u32>(1)? != owner {
                    return Ok(None);
                }
                let signature = signature(id, &stored.session, row, 3)?;
                Ok(Some(ExtensionRow { after: row.get(2)?, signature, checksum: row.get(4)? }))
            })
        }),
        last,
    };
    let mut rows = transactions.query(range)?;
    while let Some(row) = rows.next()? {
        let Some(end) = log.next(row)? else { continue };
        let after = log.begin;
        let transactions = std::mem::take(&mut log.read);
        log.begin = end.position;
        if end.position <= have {
            continue;
        }
        let known = usize::try_from(have.saturating_sub(after)).unwrap_or(usize::MAX);
        let extension = Extension {
            after: after.max(have),
            transactions: transactions.into_iter().skip(known),
            signature: end.signature,
            checkpoint: end.checkpoint,
        };
        if !runs.push(&stored.session, extension) {
            return Ok(false);
        }
    }
    if log.begin < stored.count {
        let reason = format!("transactions are missing from {} on", log.position());
        return Err(in_session(id, &stored.session, &reason));
    }
    Ok(true)
}

/// The start of the extension that contains `have`, so that its checksum can be checked.
fn start_of_extension(
    connection: &Connection,
    id: CoValueId,
    session: &SessionRow,
    have: u64,
) -> Result<u64, FileError> {
    if have == 0 {
        return Ok(0);
    }
    if let Some(last) = &session.last
        && last.after <= have
    {
        return Ok(last.after);
    }
    let mut query = connection.prepare_cached(
        "SELECT after, owner FROM downbeat_extensions WHERE ses = ?1 AND idx >= ?2
        ORDER BY idx LIMIT 1",
    )?;
    let mut rows = query.query((session.row, have))?;
    let Some(row) = rows.next()? else { return Ok(have) };
    let (after, whose): (u64, u32) = (row.get(0)?, row.get(1)?);
    let here = whose == owner(id, &session.stored.session);
    Ok(if here { after.min(have) } else { have })
}

fn room(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX).min(ROOM)
}

/// A log that is being read, transaction by transaction.
struct Log<'a, C, E> {
    id: CoValueId,
    stored: &'a StoredSession,
    /// The start of the current extension.
    begin: u64,
    /// The transactions of the current extension so far.
    read: Vec<Transaction>,
    buffer: BytesMut,
    checkpoints: RowCursor<'a, Signature, C>,
    /// The extensions, unless `last` is the only one.
    extensions: Option<RowCursor<'a, Option<ExtensionRow>, E>>,
    last: Option<&'a ExtensionRow>,
}

/// The end of an extension.
struct End {
    position: u64,
    signature: Signature,
    checkpoint: bool,
}

impl<C, E> Log<'_, C, E>
where
    C: Fn(&Row<'_>) -> Result<Signature, FileError>,
    E: Fn(&Row<'_>) -> Result<Option<ExtensionRow>, FileError>,
{
    fn position(&self) -> u64 {
        self.begin + self.read.len() as u64
    }

    /// Reads the next transaction. Returns the end of an extension, if one ends with it.
    fn next(&mut self, row: &Row<'_>) -> Result<Option<End>, FileError> {
        let index = self.position();
        if row.get::<_, u64>(0)? != index {
            return Err(self.damaged(&format!("transaction {index} is missing")));
        }
        let json = text(row, 1).map_err(|reason| self.damaged(&reason))?;
        let json = self.copy(json);
        let transaction = Transaction::parse(&json, &limits()).map_err(|error| {
            self.damaged(&format!("transaction {index} cannot be read: {error}"))
        })?;
        self.read.push(transaction);
        let position = index + 1;
        let is_last = position == self.stored.count;
        let checkpoint = self.checkpoints.at(index)?;
        let extension = match &mut self.extensions {
            Some(extensions) => extensions.at(index)?.flatten(),
            None => self.last.filter(|_| is_last).cloned(),
        };
        let signatures = [
            is_last.then_some(self.stored.last_signature),
            checkpoint,
            extension.as_ref().map(|extension| extension.signature),
        ];
        let mut signatures = signatures.into_iter().flatten();
        let Some(signature) = signatures.next() else { return Ok(None) };
        if signatures.any(|other| other != signature) {
            return Err(self.damaged(&format!("two signatures of {position} transactions")));
        }
        if let Some(extension) = extension {
            self.check(&extension)?;
        }
        Ok(Some(End { position, signature, checkpoint: checkpoint.is_some() }))
    }

    fn copy(&mut self, json: &str) -> Bytes {
        if json.len() > self.buffer.capacity() {
            if json.len() > BUFFER / 2 {
                return Bytes::copy_from_slice(json.as_bytes());
            }
            self.buffer = BytesMut::with_capacity(BUFFER);
        }
        self.buffer.extend_from_slice(json.as_bytes());
        self.buffer.split().freeze()
    }

    fn check(&self, extension: &ExtensionRow) -> Result<(), FileError> {
        let ExtensionRow { after, signature, checksum: expected } = extension;
        // Transactions before it that the reference appended have no checksum.
        let transactions = after
            .checked_sub(self.begin)
            .and_then(|before| self.read.get(usize::try_from(before).ok()?..))
            .ok_or_else(|| self.damaged("the start of an extension is missing"))?;
        if checksum(*after, signature, transactions) != *expected {
            let reason = format!("the transactions from {after} on have been changed");
            return Err(self.damaged(&reason));
        }
        Ok(())
    }

    fn damaged(&self, reason: &str) -> FileError {
        in_session(self.id, &self.stored.session, &reason)
    }
}

/// Rows for some transactions of a log, in the order of the log. One scan beside the log costs less
/// than a look-up for each transaction.
struct RowCursor<'a, T, D> {
    rows: Rows<'a>,
    decode: D,
    /// The transaction of the next row, and the row or its error.
    ahead: Option<(u64, Result<T, FileError>)>,
    begun: bool,
}

impl<'a, T, D: Fn(&Row<'_>) -> Result<T, FileError>> RowCursor<'a, T, D> {
    fn new(rows: Rows<'a>, decode: D) -> Self {
        Self { rows, decode, ahead: None, begun: false }
    }

    /// The row for a transaction. Must be called with ascending transactions.
    fn at(&mut self, index: u64) -> Result<Option<T>, FileError> {
        if !self.begun {
            self.begun = true;
            self.advance()?;
        }
        while self.ahead.as_ref().is_some_and(|(ahead, _)| *ahead < index) {
            self.advance()?;
        }
        match self.ahead.take_if(|(ahead, _)| *ahead == index) {
            Some((_, row)) => {
                self.advance()?;
                row.map(Some)
            }
            None => Ok(None),
        }
    }

    fn advance(&mut self) -> Result<(), FileError> {
        self.ahead = match self.rows.next()? {
            Some(row) => Some((row.get(0)?, (self.decode)(row))),
            None => None,
        };
        Ok(())
    }
}
