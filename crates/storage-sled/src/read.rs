//! Reads a CoValue from its records.
//!
//! sled's scans are no snapshots. The writer only appends to logs and raises heads, with one
//! exception: a tombstone hides sessions, and erasure then removes them. So data that was read from
//! a CoValue without a tombstone is valid only if the CoValue has no tombstone afterwards either.

use downbeat_protocol::{CoValueId, SessionContent, SessionCounts, SessionId, Signature};
use downbeat_storage::{Damage, Runs, StorageError, StoredCoValue, StoredSession, Unsynced};
use sled::IVec;

use crate::chunks::{Log, read_header};
use crate::keys;
use crate::record::{self, CoValueRecord, HeadRecord};
use crate::tree::{Records, Tree};

/// See [`Storage::load`](downbeat_storage::Storage::load).
pub(crate) fn load(tree: &Tree, id: CoValueId) -> Result<Option<StoredCoValue>, StorageError> {
    load_stored(tree, id).map_err(|error| name_damage(error, id))
}

/// See [`Storage::read`](downbeat_storage::Storage::read). `runs` takes the answer.
pub(crate) fn read(
    tree: &Tree,
    id: CoValueId,
    have: &SessionCounts,
    runs: &Runs,
) -> Result<Vec<SessionContent>, StorageError> {
    read_runs(tree, id, have, runs).map_err(|error| name_damage(error, id))
}

/// Adds the CoValue to damage in sled's own structures.
fn name_damage(error: StorageError, id: CoValueId) -> StorageError {
    match error {
        StorageError::Corrupt(damage) => damage.while_reading(id).into(),
        error => error,
    }
}

fn load_stored(tree: &Tree, id: CoValueId) -> Result<Option<StoredCoValue>, StorageError> {
    loop {
        let mut records = tree.prefix(&keys::co_value(id));
        let Some((key, value)) = own_record(id, &mut records)? else { return Ok(None) };
        let co_value = decode_co_value(id, &key, &value)?;
        let header = read_header(|key| tree.get(key), id, &co_value)?;
        let mut sessions = Vec::new();
        for record in records {
            let (key, value) = record?;
            let session = decode_session(id, &key)?;
            if !co_value.deleted || session.is_delete() {
                sessions.push(stored_session(id, session, &key, &value)?);
            }
        }
        if co_value.deleted || is_unchanged(tree, &key, &value)? {
            return Ok(Some(StoredCoValue { header, sessions, deleted: co_value.deleted }));
        }
    }
}

fn read_runs(
    tree: &Tree,
    id: CoValueId,
    have: &SessionCounts,
    empty: &Runs,
) -> Result<Vec<SessionContent>, StorageError> {
    loop {
        let mut heads = tree.prefix(&keys::co_value(id));
        let Some((key, value)) = own_record(id, &mut heads)? else { return Ok(Vec::new()) };
        let deleted = decode_co_value(id, &key, &value)?.deleted;
        let runs = read_logs(tree, id, deleted, heads, have, empty.clone());
        if deleted || is_unchanged(tree, &key, &value)? {
            return runs;
        }
    }
}

/// The CoValue's own record, which comes before the heads of its sessions. `None` if it is not
/// stored.
fn own_record(
    id: CoValueId,
    records: &mut Records<'_>,
) -> Result<Option<(IVec, IVec)>, StorageError> {
    let Some(first) = records.next().transpose()? else { return Ok(None) };
    if first.0 != keys::co_value(id) {
        return Err(Damage::in_co_value(id, "its record is missing").into());
    }
    Ok(Some(first))
}

fn read_logs(
    tree: &Tree,
    id: CoValueId,
    deleted: bool,
    heads: Records<'_>,
    have: &SessionCounts,
    mut runs: Runs,
) -> Result<Vec<SessionContent>, StorageError> {
    for record in heads {
        let (key, value) = record?;
        let session = decode_session(id, &key)?;
        if deleted && !session.is_delete() {
            continue;
        }
        let head = stored_session(id, session, &key, &value)?;
        let have = have.get(&head.session);
        if have < head.count && !read_log(tree, id, &head, have, &mut runs)? {
            break;
        }
    }
    Ok(runs.into_vec())
}

/// Reads a log beyond `have`. Returns whether there is budget for more.
fn read_log(
    tree: &Tree,
    id: CoValueId,
    head: &StoredSession,
    have: u64,
    runs: &mut Runs,
) -> Result<bool, StorageError> {
    let mut log = Log::new(tree, id, &head.session, have);
    while log.position() < head.count {
        let Some(extension) = log.next()? else {
            let reason =
                format!("{} transactions are missing at the end", head.count - log.position());
            return Err(Damage::in_session(id, &head.session, reason).into());
        };
        if !runs.push(&head.session, extension) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// See [`Storage::list`](downbeat_storage::Storage::list). Steps from CoValue to CoValue, without
/// reading the sessions between them.
pub(crate) fn list(
    tree: &Tree,
    after: Option<CoValueId>,
    limit: usize,
) -> Result<Vec<CoValueId>, StorageError> {
    let mut ids = Vec::new();
    let mut after = after;
    while ids.len() < limit {
        let Some(record) = tree.range(keys::heads_after(after)).next() else { break };
        let id = keys::parse_head(&record?.0)?;
        ids.push(id);
        after = Some(id);
    }
    Ok(ids)
}

/// See [`Storage::erasable`](downbeat_storage::Storage::erasable).
pub(crate) fn erasable(
    tree: &Tree,
    after: Option<CoValueId>,
    limit: usize,
) -> Result<Vec<CoValueId>, StorageError> {
    let records = tree.range(keys::erasable_after(after)).take(limit);
    let entry = |(key, value): (IVec, IVec)| {
        check_empty(&key, &value)?;
        Ok(keys::parse_erasable(&key)?)
    };
    records.map(|record| record.and_then(entry)).collect()
}

/// See [`Storage::unsynced`](downbeat_storage::Storage::unsynced).
pub(crate) fn unsynced(
    tree: &Tree,
    after: Option<&Unsynced>,
    limit: usize,
) -> Result<Vec<Unsynced>, StorageError> {
    let records = tree.range(keys::unsynced_after(after)).take(limit);
    let entry = |(key, value): (IVec, IVec)| {
        check_empty(&key, &value)?;
        Ok(keys::parse_unsynced(&key)?)
    };
    records.map(|record| record.and_then(entry)).collect()
}

pub(crate) fn decode_co_value<'a>(
    id: CoValueId,
    key: &[u8],
    value: &'a [u8],
) -> Result<CoValueRecord<'a>, Damage> {
    record::decode(key, value).map_err(|error| Damage::in_co_value(id, error.to_string()))
}

/// The session of a key in the space of heads.
pub(crate) fn decode_session(id: CoValueId, key: &[u8]) -> Result<SessionId, Damage> {
    let session = keys::session_of_head(id, key)
        .ok_or_else(|| Damage::in_co_value(id, "the key of a session's head is malformed"))?;
    SessionId::parse(session).map_err(|error| Damage::in_co_value(id, error.to_string()))
}

pub(crate) fn decode_head<'a>(
    id: CoValueId,
    session: &SessionId,
    key: &[u8],
    value: &'a [u8],
) -> Result<(HeadRecord<'a>, Signature), Damage> {
    let damaged = |reason: String| Damage::in_session(id, session, reason);
    let head: HeadRecord<'_> =
        record::decode(key, value).map_err(|error| damaged(error.to_string()))?;
    let signature = Signature::parse(head.signature).map_err(|error| damaged(error.to_string()))?;
    Ok((head, signature))
}

fn stored_session(
    id: CoValueId,
    session: SessionId,
    key: &[u8],
    value: &[u8],
) -> Result<StoredSession, Damage> {
    let (head, last_signature) = decode_head(id, &session, key, value)?;
    let (count, since_checkpoint) = (head.count, head.since_checkpoint);
    Ok(StoredSession { session, count, last_signature, since_checkpoint })
}

/// Checks a record without content.
fn check_empty(key: &[u8], value: &[u8]) -> Result<(), Damage> {
    record::decode(key, value).map_err(|error| {
        Damage::in_record(format!("key {}", key.escape_ascii()), error.to_string())
    })
}

fn is_unchanged(tree: &Tree, key: &[u8], value: &IVec) -> Result<bool, StorageError> {
    Ok(tree.get(key)?.as_ref() == Some(value))
}
