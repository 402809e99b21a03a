//! Reads CoValues from the tables. Each function sees one snapshot.

use downbeat_protocol::{CoValueId, SessionContent, SessionCounts};
use downbeat_storage::{Runs, StoredCoValue};
use rusqlite::Connection;

use super::co_values::{self, CoValueSessions};
use super::log;
use crate::error::FileError;

/// See [`Storage::load`](downbeat_storage::Storage::load).
pub(crate) fn load(
    connection: &Connection,
    id: CoValueId,
) -> Result<Option<StoredCoValue>, FileError> {
    let Some(found) = co_values::header_and_sessions(connection, id)? else { return Ok(None) };
    let CoValueSessions { co_value, header, sessions } = found;
    let sessions = sessions.into_iter().map(|(session, head)| head.stored(session)).collect();
    Ok(Some(StoredCoValue { header, sessions, deleted: co_value.state.deleted }))
}

/// See [`Storage::read`](downbeat_storage::Storage::read). `runs` takes the answer.
pub(crate) fn read(
    connection: &Connection,
    id: CoValueId,
    have: &SessionCounts,
    mut runs: Runs,
) -> Result<Vec<SessionContent>, FileError> {
    let Some(found) = co_values::sessions(connection, id)? else { return Ok(Vec::new()) };
    for (session, head) in &found.sessions {
        let have = have.get(session);
        if have < head.count && !log::read(connection, id, (session, head), have, &mut runs)? {
            break;
        }
    }
    Ok(runs.into_vec())
}
