//! What the file says of a CoValue and its sessions, without their transactions.

use downbeat_protocol::{CoValueId, Header, SessionId, Signature};
use downbeat_storage::StoredSession;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::extension::owner;
use crate::fault::{Fault, in_co_value, in_session};
use crate::header;

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
}

pub(crate) fn co_value(
    connection: &Connection,
    id: CoValueId,
) -> Result<Option<CoValueRow>, Fault> {
    let mut query = connection.prepare_cached(
        "SELECT c.rowID, d.coValueID IS NOT NULL
        FROM coValues c LEFT JOIN deletedCoValues d ON d.coValueID = c.id WHERE c.id = ?1",
    )?;
    let found = query
        .query_row([id.as_str()], |row| Ok(CoValueRow { row: row.get(0)?, deleted: row.get(1)? }));
    Ok(found.optional()?)
}

pub(crate) fn header(
    connection: &Connection,
    id: CoValueId,
    row: CoValueRow,
) -> Result<Header, Fault> {
    let mut query = connection.prepare_cached("SELECT header FROM coValues WHERE rowID = ?1")?;
    let mut rows = query.query([row.row])?;
    let row = rows.next()?.ok_or_else(|| in_co_value(id, &"its header is missing"))?;
    header::decode(id, text(row, 0).map_err(|reason| in_co_value(id, &reason))?)
}

/// The sessions that have transactions and can be read, sorted by id.
pub(crate) fn sessions(
    connection: &Connection,
    id: CoValueId,
    co_value: CoValueRow,
) -> Result<Vec<SessionRow>, Fault> {
    // A row per session, and one for each extension that ends where the log does or later; there
    // should be no later ones.
    let mut query = connection.prepare_cached(
        "SELECT s.rowID, s.sessionID, s.lastIdx, s.lastSignature, s.bytesSinceLastSignature,
            e.idx, e.owner, e.signature
        FROM sessions s
        LEFT JOIN downbeat_extensions e ON e.ses = s.rowID AND e.idx >= s.lastIdx - 1
        WHERE s.coValue = ?1",
    )?;
    let mut rows = query.query([co_value.row])?;
    let mut sessions: Vec<SessionRow> = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(session) = session_row(id, row)? else { continue };
        if !co_value.deleted || session.stored.session.is_delete() {
            sessions.push(session);
        }
    }
    sessions.sort_by(|a, b| a.stored.session.cmp(&b.stored.session));
    sessions.dedup_by_key(|session| session.row);
    Ok(sessions)
}

/// One session, if it has transactions.
pub(crate) fn session(
    connection: &Connection,
    id: CoValueId,
    co_value: i64,
    session: &SessionId,
) -> Result<Option<SessionRow>, Fault> {
    let mut query = connection.prepare_cached(
        "SELECT s.rowID, s.sessionID, s.lastIdx, s.lastSignature, s.bytesSinceLastSignature,
            e.idx, e.owner, e.signature
        FROM sessions s
        LEFT JOIN downbeat_extensions e ON e.ses = s.rowID AND e.idx >= s.lastIdx - 1
        WHERE s.coValue = ?1 AND s.sessionID = ?2",
    )?;
    let mut rows = query.query((co_value, session.as_str()))?;
    let mut found = None;
    while let Some(row) = rows.next()? {
        found = session_row(id, row)?;
    }
    Ok(found)
}

/// Reads a row of the queries above; `None` if the session has no transactions.
fn session_row(id: CoValueId, row: &Row<'_>) -> Result<Option<SessionRow>, Fault> {
    let session = text(row, 1).map_err(|reason| in_co_value(id, &reason))?;
    let session = SessionId::parse(session).map_err(|error| in_co_value(id, &error))?;
    let count: Option<i64> = row.get(2)?;
    let count = count
        .and_then(|count| u64::try_from(count).ok())
        .ok_or_else(|| in_session(id, &session, &"the number of transactions is none"))?;
    if count == 0 {
        return Ok(None);
    }
    let last_signature = signature(id, &session, row, 3)?;
    if let Some(end) = row.get::<_, Option<u64>>(5)? {
        let signed = signature(id, &session, row, 7)?;
        if row.get::<_, u32>(6)? != owner(id, &session) {
            // A row that another session has left, unless it is known by its signature.
            if signed == last_signature {
                return Err(in_session(id, &session, &"the log is another session's"));
            }
        } else if end >= count {
            let reason = format!("there was a transaction {end}, but the log has only {count}");
            return Err(in_session(id, &session, &reason));
        } else if signed != last_signature {
            return Err(in_session(id, &session, &"the last signature has been changed"));
        }
    }
    // Files of the oldest versions have no figure here, and then no checkpoints either.
    let since: Option<i64> = row.get(4)?;
    let since_checkpoint = since.and_then(|since| u64::try_from(since).ok()).unwrap_or(0);
    let stored = StoredSession { session, count, last_signature, since_checkpoint };
    Ok(Some(SessionRow { row: row.get(0)?, stored }))
}

/// The signature in a column.
pub(crate) fn signature(
    id: CoValueId,
    session: &SessionId,
    row: &Row<'_>,
    column: usize,
) -> Result<Signature, Fault> {
    let text = text(row, column).map_err(|reason| in_session(id, session, &reason))?;
    Signature::parse(text).map_err(|error| in_session(id, session, &error))
}

/// The text in a column, or what is wrong with it.
pub(crate) fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, String> {
    row.get_ref(column)
        .map_err(|error| error.to_string())?
        .as_str()
        .map_err(|error| error.to_string())
}
