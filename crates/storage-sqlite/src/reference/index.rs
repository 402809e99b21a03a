//! Reads a CoValue and its sessions from the file, without their transactions.

use downbeat_protocol::{CoValueId, Header, SessionId, Signature};
use downbeat_storage::StoredSession;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use super::extension::{ExtensionRow, owner};
use super::header;
use crate::error::{FileError, in_co_value, in_session};
use crate::read::text;

/// The columns of a session and of the extension at its end. See [`session_row`].
macro_rules! session_columns {
    () => {
        "s.rowID, s.sessionID, s.lastIdx, s.lastSignature, s.bytesSinceLastSignature,
        e.idx, e.owner, e.after, e.signature, e.checksum"
    };
}

/// A CoValue's row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CoValueRow {
    pub(crate) row: i64,
    /// Whether it has a tombstone.
    pub(crate) deleted: bool,
}

/// A session's row. The count is never 0.
#[derive(Debug)]
pub(crate) struct SessionRow {
    pub(crate) row: i64,
    pub(crate) stored: StoredSession,
    /// The extension at the end of its log, unless the reference has written it.
    pub(crate) last: Option<ExtensionRow>,
}

/// A stored CoValue and its sessions.
#[derive(Debug)]
pub(crate) struct CoValueSessions<H> {
    pub(crate) header: H,
    pub(crate) deleted: bool,
    /// The visible sessions that have transactions, sorted by id.
    pub(crate) sessions: Vec<SessionRow>,
}

pub(crate) fn co_value(
    connection: &Connection,
    id: CoValueId,
) -> Result<Option<CoValueRow>, FileError> {
    let mut query = connection.prepare_cached(
        "SELECT c.rowID, d.coValueID IS NOT NULL
        FROM coValues c LEFT JOIN deletedCoValues d ON d.coValueID = c.id WHERE c.id = ?1",
    )?;
    let found = query
        .query_row([id.as_str()], |row| Ok(CoValueRow { row: row.get(0)?, deleted: row.get(1)? }));
    match found.optional()? {
        Some(found) => Ok(Some(found)),
        None => not_stored(connection, id).map(|()| None),
    }
}

/// Checks that a CoValue that was not found is in neither of the two indexes of ids. SQLite keeps
/// no checksums. An index with a changed byte may not find a stored CoValue, and a reader does not
/// notice.
fn not_stored(connection: &Connection, id: CoValueId) -> Result<(), FileError> {
    for query in [
        "SELECT 1 FROM coValues INDEXED BY coValuesByID WHERE id = ?1",
        "SELECT 1 FROM coValues INDEXED BY sqlite_autoindex_coValues_1 WHERE id = ?1",
    ] {
        if connection.prepare_cached(query)?.exists([id.as_str()])? {
            return Err(in_co_value(id, &"one index of the file has it, and another does not"));
        }
    }
    Ok(())
}

/// A CoValue's header and sessions.
pub(crate) fn header_and_sessions(
    connection: &Connection,
    id: CoValueId,
) -> Result<Option<CoValueSessions<Header>>, FileError> {
    let query = concat!(
        "SELECT d.coValueID IS NOT NULL, ",
        session_columns!(),
        ", c.header
        FROM coValues c
        LEFT JOIN deletedCoValues d ON d.coValueID = c.id
        LEFT JOIN sessions s ON s.coValue = c.rowID
        LEFT JOIN downbeat_extensions e ON e.ses = s.rowID AND e.idx >= s.lastIdx - 1
        WHERE c.id = ?1"
    );
    find(connection, id, query, |row| {
        let header = text(row, 11).map_err(|reason| in_co_value(id, &reason))?;
        header::decode(id, header)
    })
}

/// A CoValue's sessions.
pub(crate) fn sessions(
    connection: &Connection,
    id: CoValueId,
) -> Result<Option<CoValueSessions<()>>, FileError> {
    let query = concat!(
        "SELECT d.coValueID IS NOT NULL, ",
        session_columns!(),
        " FROM coValues c
        LEFT JOIN deletedCoValues d ON d.coValueID = c.id
        LEFT JOIN sessions s ON s.coValue = c.rowID
        LEFT JOIN downbeat_extensions e ON e.ses = s.rowID AND e.idx >= s.lastIdx - 1
        WHERE c.id = ?1"
    );
    find(connection, id, query, |_| Ok(()))
}

/// A CoValue's sessions, including those that a tombstone hides.
pub(crate) fn all_sessions(
    connection: &Connection,
    id: CoValueId,
    co_value: i64,
) -> Result<Vec<SessionRow>, FileError> {
    let query = concat!(
        "SELECT FALSE, ",
        session_columns!(),
        " FROM sessions s
        LEFT JOIN downbeat_extensions e ON e.ses = s.rowID AND e.idx >= s.lastIdx - 1
        WHERE s.coValue = ?1"
    );
    let mut query = connection.prepare_cached(query)?;
    let mut rows = query.query([co_value])?;
    let mut sessions = Vec::new();
    while let Some(row) = rows.next()? {
        sessions.extend(session_row(id, row)?);
    }
    Ok(sorted(sessions))
}

/// Runs one query for everything, because a query costs as much as several look-ups. The query
/// gives a row for each session, and one row without a session if there is none. It gives one more
/// row for each extension that ends after the end of its log; an undamaged file has none.
fn find<H>(
    connection: &Connection,
    id: CoValueId,
    query: &str,
    header: impl FnOnce(&Row<'_>) -> Result<H, FileError>,
) -> Result<Option<CoValueSessions<H>>, FileError> {
    let mut query = connection.prepare_cached(query)?;
    let mut rows = query.query([id.as_str()])?;
    let Some(mut row) = rows.next()? else {
        drop(rows);
        return not_stored(connection, id).map(|()| None);
    };
    let deleted: bool = row.get(0)?;
    let header = header(row)?;
    let mut sessions = Vec::new();
    loop {
        if row.get_ref(1)? != ValueRef::Null
            && let Some(session) = session_row(id, row)?
            && (!deleted || session.stored.session.is_delete())
        {
            sessions.push(session);
        }
        row = match rows.next()? {
            Some(row) => row,
            None => break,
        };
    }
    Ok(Some(CoValueSessions { header, deleted, sessions: sorted(sessions) }))
}

/// Sorts sessions by id, and removes duplicates.
fn sorted(mut sessions: Vec<SessionRow>) -> Vec<SessionRow> {
    sessions.sort_by(|a, b| a.stored.session.cmp(&b.stored.session));
    sessions.dedup_by(|next, first| {
        let same = next.row == first.row;
        if same && first.last.is_none() {
            first.last = next.last.take();
        }
        same
    });
    sessions
}

/// One session, if it has transactions.
pub(crate) fn session(
    connection: &Connection,
    id: CoValueId,
    co_value: i64,
    session: &SessionId,
) -> Result<Option<SessionRow>, FileError> {
    let query = concat!(
        "SELECT FALSE, ",
        session_columns!(),
        " FROM sessions s
        LEFT JOIN downbeat_extensions e ON e.ses = s.rowID AND e.idx >= s.lastIdx - 1
        WHERE s.coValue = ?1 AND s.sessionID = ?2"
    );
    let mut query = connection.prepare_cached(query)?;
    let mut rows = query.query((co_value, session.as_str()))?;
    let mut found = None;
    while let Some(row) = rows.next()? {
        found = session_row(id, row)?;
    }
    Ok(found)
}

/// Reads a row of the queries above, from its second column on. `None` if the session has no
/// transactions.
fn session_row(id: CoValueId, row: &Row<'_>) -> Result<Option<SessionRow>, FileError> {
    let session = text(row, 2).map_err(|reason| in_co_value(id, &reason))?;
    let session = SessionId::parse(session).map_err(|error| in_co_value(id, &error))?;
    let count: Option<i64> = row.get(3)?;
    let count = count
        .and_then(|count| u64::try_from(count).ok())
        .ok_or_else(|| in_session(id, &session, &"the number of transactions is invalid"))?;
    if count == 0 {
        return Ok(None);
    }
    let last_signature = signature(id, &session, row, 4)?;
    let mut last = None;
    if let Some(end) = row.get::<_, Option<u64>>(6)? {
        let signed = signature(id, &session, row, 9)?;
        if row.get::<_, u32>(7)? != owner(id, &session) {
            // A leftover of another session, unless it has the signature of this one.
            if signed == last_signature {
                return Err(in_session(id, &session, &"the log belongs to another session"));
            }
        } else if end >= count {
            let reason = format!("there was a transaction {end}, but the log has only {count}");
            return Err(in_session(id, &session, &reason));
        } else if signed != last_signature {
            return Err(in_session(id, &session, &"the last signature has been changed"));
        } else {
            let (after, checksum) = (row.get(8)?, row.get(10)?);
            last = Some(ExtensionRow { after, signature: signed, checksum });
        }
    }
    // Files of the oldest versions have no number here, and no checkpoints either.
    let since: Option<i64> = row.get(5)?;
    let since_checkpoint = since.and_then(|since| u64::try_from(since).ok()).unwrap_or(0);
    let stored = StoredSession { session, count, last_signature, since_checkpoint };
    Ok(Some(SessionRow { row: row.get(1)?, stored, last }))
}

/// The signature in a column.
pub(crate) fn signature(
    id: CoValueId,
    session: &SessionId,
    row: &Row<'_>,
    column: usize,
) -> Result<Signature, FileError> {
    let text = text(row, column).map_err(|reason| in_session(id, session, &reason))?;
    Signature::parse(text).map_err(|error| in_session(id, session, &error))
}
