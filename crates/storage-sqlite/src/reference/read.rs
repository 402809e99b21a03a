//! Reads CoValues from the tables. Each function sees one snapshot.

use downbeat_protocol::{CoValueId, SessionContent, SessionCounts};
use downbeat_storage::{Runs, StoredCoValue};
use rusqlite::Connection;

use super::{index, log};
use crate::error::FileError;

/// See [`Storage::load`](downbeat_storage::Storage::load).
pub(crate) fn load(
    connection: &Connection,
    id: CoValueId,
) -> Result<Option<StoredCoValue>, FileError> {
    let Some(found) = index::header_and_sessions(connection, id)? else { return Ok(None) };
    let index::CoValueSessions { header, deleted, sessions } = found;
    let sessions = sessions.into_iter().map(|session| session.stored).collect();
    Ok(Some(StoredCoValue { header, sessions, deleted }))
}

/// See [`Storage::read`](downbeat_storage::Storage::read). `runs` takes the answer.
pub(crate) fn read(
    connection: &Connection,
    id: CoValueId,
    have: &SessionCounts,
    mut runs: Runs,
) -> Result<Vec<SessionContent>, FileError> {
    let found = index::sessions(connection, id)?;
    for session in found.iter().flat_map(|found| &found.sessions) {
        let have = have.get(&session.stored.session);
        if have < session.stored.count && !log::read(connection, id, session, have, &mut runs)? {
            break;
        }
    }
    Ok(runs.into_vec())
}
