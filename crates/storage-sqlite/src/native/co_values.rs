//! Reads a CoValue and the heads of its sessions, without their transactions.

use bytes::Bytes;
use downbeat_protocol::{CoValueId, Header, Limits, SessionId, Signature};
use downbeat_storage::records::{self, HeadRecord};
use downbeat_storage::{SinceCheckpoint, StoredSession};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::record::{StateRecord, hash, head_key, header_key, parse_place, state_key};
use crate::error::{FileError, in_co_value, in_session};
use crate::read::text;

/// A CoValue's row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CoValue {
    pub(crate) row: i64,
    pub(crate) state: StateRecord,
}

/// The head of a session's log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// The number of the session.
    pub(crate) ses: i64,
    /// Transactions; never 0.
    pub(crate) count: u64,
    pub(crate) since_checkpoint: SinceCheckpoint,
    /// Bytes of the transactions' JSON.
    pub(crate) bytes: u64,
    /// The signature of the log up to its end.
    pub(crate) signature: Signature,
    /// Bytes of the record in `tails`; 0 if there is none. Only the writer knows it.
    pub(crate) tail: usize,
}

/// A CoValue and its visible sessions, in the order of their ids.
#[derive(Debug)]
pub(crate) struct CoValueSessions<H> {
    pub(crate) co_value: CoValue,
    pub(crate) header: H,
    pub(crate) sessions: Vec<(SessionId, Head)>,
}

/// The columns of a CoValue with its sessions. A row for each session, and one row without a
/// session if there is none. One query for everything, because a query costs as much as several
/// look-ups.
macro_rules! co_value_with_sessions {
    ($more:literal) => {
        concat!(
            "SELECT c.rowID, c.state, s.sessionID, s.ses, s.head",
            $more,
            " FROM coValues c LEFT JOIN sessions s ON s.coValue = c.rowID WHERE c.id = ?1"
        )
    };
}

pub(crate) fn co_value(
    connection: &Connection,
    id: CoValueId,
) -> Result<Option<CoValue>, FileError> {
    let mut query = connection.prepare_cached("SELECT rowID, state FROM coValues WHERE id = ?1")?;
    let mut rows = query.query([id.as_str()])?;
    match rows.next()? {
        Some(row) => co_value_row(id, row).map(Some),
        None => not_stored(connection, id).map(|()| None),
    }
}

/// Checks that a CoValue that was not found by its id is not found by its hash either. SQLite keeps
/// no checksums. An index with a changed byte may not find a stored CoValue, and a reader does not
/// notice.
fn not_stored(connection: &Connection, id: CoValueId) -> Result<(), FileError> {
    let query = "SELECT state FROM coValues INDEXED BY coValuesByHash WHERE hash = ?1";
    let mut query = connection.prepare_cached(query)?;
    let mut rows = query.query([hash(id)])?;
    while let Some(row) = rows.next()? {
        // The checksum tells whether the row is of this CoValue, whatever id it has.
        let is_ours = |state| records::decode::<StateRecord>(&state_key(id), state).is_ok();
        if blob(row, 0).is_ok_and(is_ours) {
            return Err(in_co_value(id, &"it is found by its hash, but not by its id"));
        }
    }
    Ok(())
}

/// A CoValue with its header and its visible sessions.
pub(crate) fn header_and_sessions(
    connection: &Connection,
    id: CoValueId,
) -> Result<Option<CoValueSessions<Header>>, FileError> {
    find(connection, id, co_value_with_sessions!(", c.header"), false, |row| {
        let json = records::decode_bytes(&header_key(id), blob(row, 5)?)
            .map_err(|error| in_co_value(id, &format_args!("header: {error}")))?;
        Header::parse(&Bytes::copy_from_slice(json), &Limits::unlimited())
            .map_err(|error| in_co_value(id, &format_args!("the header does not parse: {error}")))
    })
}

/// A CoValue with its visible sessions.
pub(crate) fn sessions(
    connection: &Connection,
    id: CoValueId,
) -> Result<Option<CoValueSessions<()>>, FileError> {
    find(connection, id, co_value_with_sessions!(""), false, |_| Ok(()))
}

/// A CoValue with all its sessions, including those that a tombstone hides.
pub(crate) fn all_sessions(
    connection: &Connection,
    id: CoValueId,
) -> Result<Option<CoValueSessions<()>>, FileError> {
    find(connection, id, co_value_with_sessions!(""), true, |_| Ok(()))
}

fn find<H>(
    connection: &Connection,
    id: CoValueId,
    query: &str,
    hidden: bool,
    header: impl FnOnce(&Row<'_>) -> Result<H, FileError>,
) -> Result<Option<CoValueSessions<H>>, FileError> {
    let mut query = connection.prepare_cached(query)?;
    let mut rows = query.query([id.as_str()])?;
    let Some(mut row) = rows.next()? else {
        return not_stored(connection, id).map(|()| None);
    };
    let co_value = co_value_row(id, row)?;
    let header = header(row)?;
    let (mut sessions, mut count, mut invalid) = (Vec::new(), 0, None);
    loop {
        if row.get_ref(2)? != ValueRef::Null {
            match session_row(id, row) {
                Ok((session, head)) => {
                    count += 1;
                    if hidden || !co_value.state.deleted || session.is_delete() {
                        sessions.push((session, head));
                    }
                }
                Err(error) => drop(invalid.get_or_insert(error)),
            }
        }
        row = match rows.next()? {
            Some(row) => row,
            None => break,
        };
    }
    // With all its own sessions, an invalid row is of another CoValue, whose number has changed.
    let expected = co_value.state.sessions;
    if count != expected {
        let reason = format!("{expected} sessions are stored, and {count} are found");
        return Err(invalid.unwrap_or_else(|| in_co_value(id, &reason)));
    }
    Ok(Some(CoValueSessions { co_value, header, sessions }))
}

/// The head of a session, if it is stored.
pub(crate) fn head(
    connection: &Connection,
    id: CoValueId,
    co_value: i64,
    session: &SessionId,
) -> Result<Option<Head>, FileError> {
    let mut query = connection.prepare_cached(
        "SELECT s.ses, s.head, IFNULL(length(t.record), 0)
        FROM sessions s LEFT JOIN tails t ON t.ses = s.ses
        WHERE s.coValue = ?1 AND s.sessionID = ?2",
    )?;
    let mut rows = query.query((co_value, session.as_str()))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let head = head_row(id, session, row, 0)?;
    Ok(Some(Head { tail: row.get(2)?, ..head }))
}

fn co_value_row(id: CoValueId, row: &Row<'_>) -> Result<CoValue, FileError> {
    let state = records::decode(&state_key(id), blob(row, 1)?)
        .map_err(|error| in_co_value(id, &format_args!("state: {error}")))?;
    Ok(CoValue { row: row.get(0)?, state })
}

/// Reads a session from the third column on.
fn session_row(id: CoValueId, row: &Row<'_>) -> Result<(SessionId, Head), FileError> {
    let session = text(row, 2).map_err(|reason| in_co_value(id, &reason))?;
    let session = SessionId::parse(session).map_err(|error| in_co_value(id, &error))?;
    let head = head_row(id, &session, row, 3)?;
    Ok((session, head))
}

/// Reads the session's number from this column, and the head from the next.
pub(crate) fn head_row(
    id: CoValueId,
    session: &SessionId,
    row: &Row<'_>,
    column: usize,
) -> Result<Head, FileError> {
    let head: HeadRecord<'_> = records::decode(&head_key(id, session), blob(row, column + 1)?)
        .map_err(|error| in_session(id, session, &format_args!("head: {error}")))?;
    Ok(Head {
        ses: row.get(column)?,
        count: head.count,
        since_checkpoint: SinceCheckpoint(head.since_checkpoint),
        bytes: head.bytes,
        signature: Signature::parse(head.signature)
            .map_err(|error| in_session(id, session, &error))?,
        tail: 0,
    })
}

/// The bytes in a column.
pub(crate) fn blob<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a [u8], FileError> {
    let value = row.get_ref(column)?;
    let blob = value.as_blob();
    blob.map_err(|_| {
        rusqlite::Error::InvalidColumnType(column, "a record".into(), value.data_type()).into()
    })
}

/// The row of the next new CoValue.
pub(crate) fn next_row(connection: &Connection) -> Result<i64, FileError> {
    let mut query = connection.prepare_cached("SELECT MAX(rowID) FROM coValues")?;
    let last: Option<i64> = query.query_row([], |row| row.get(0))?;
    Ok(last.unwrap_or(0).saturating_add(1))
}

/// The number of the next new session. Every session has a record in the log.
pub(crate) fn next_session(connection: &Connection) -> Result<i64, FileError> {
    let mut query = connection.prepare_cached("SELECT MAX(place) FROM log")?;
    let last: Option<i64> = query.query_row([], |row| row.get(0))?;
    Ok(last.map_or(0, |place| parse_place(place).0).saturating_add(1))
}

impl Head {
    pub(crate) fn stored(self, session: SessionId) -> StoredSession {
        StoredSession {
            session,
            count: self.count,
            last_signature: self.signature,
            since_checkpoint: self.since_checkpoint.0,
        }
    }

    /// The record of the head.
    pub(crate) fn encode(&self, id: CoValueId, session: &SessionId) -> Vec<u8> {
        let record = HeadRecord {
            count: self.count,
            since_checkpoint: self.since_checkpoint.0,
            bytes: self.bytes,
            signature: self.signature.as_str(),
        };
        records::encode(&head_key(id, session), &record, size_of::<Head>())
    }
}
