//! Reading: what is in the file's tables, put together. Each of these sees one snapshot.

use bytes::Bytes;
use downbeat_protocol::{CoValueId, SessionContent, SessionCounts, Signature, Transaction};
use downbeat_storage::{
    Damage, Extension, MAX_UPSTREAM_NAME_LEN, Runs, Stored, StoredSession, Unsynced, UpstreamName,
};
use rusqlite::{Connection, Row};

use crate::extension::{ExtensionRow, checksum, owner};
use crate::fault::{Fault, in_session};
use crate::header::limits;
use crate::index::{self, SessionRow, signature, text};

/// See [`Storage::load`](downbeat_storage::Storage::load).
pub(crate) fn load(connection: &Connection, id: CoValueId) -> Result<Option<Stored>, Fault> {
    let Some(co_value) = index::co_value(connection, id)? else { return Ok(None) };
    let header = index::header(connection, id, co_value)?;
    let sessions = index::sessions(connection, id, co_value)?;
    let sessions = sessions.into_iter().map(|session| session.stored).collect();
    Ok(Some(Stored { header, sessions, deleted: co_value.deleted }))
}

/// See [`Storage::read`](downbeat_storage::Storage::read).
pub(crate) fn read(
    connection: &Connection,
    id: CoValueId,
    have: &SessionCounts,
    max_bytes: usize,
) -> Result<Vec<SessionContent>, Fault> {
    let mut runs = Runs::new(max_bytes);
    if let Some(co_value) = index::co_value(connection, id)? {
        for session in index::sessions(connection, id, co_value)? {
            let have = have.get(&session.stored.session);
            if have < session.stored.count && !read_log(connection, id, &session, have, &mut runs)?
            {
                break;
            }
        }
    }
    Ok(runs.into_vec())
}

/// Reads a log beyond `have`, and tells whether there is budget for more.
fn read_log(
    connection: &Connection,
    id: CoValueId,
    session: &SessionRow,
    have: u64,
    runs: &mut Runs,
) -> Result<bool, Fault> {
    let SessionRow { row, stored } = session;
    let start = start_of_extension(connection, id, session, have)?;
    let mut query = connection.prepare_cached(
        "SELECT t.idx, t.tx, s.signature, e.owner, e.after, e.signature, e.checksum
        FROM transactions t
        LEFT JOIN signatureAfter s ON s.ses = t.ses AND s.idx = t.idx
        LEFT JOIN downbeat_extensions e ON e.ses = t.ses AND e.idx = t.idx
        WHERE t.ses = ?1 AND t.idx >= ?2 AND t.idx < ?3 ORDER BY t.idx",
    )?;
    let mut rows = query.query((row, start, stored.count))?;
    let mut log = Log { id, stored, owner: owner(id, &stored.session), begin: start, read: vec![] };
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

/// Where the extension begins that `have` lies in, so that its checksum can be checked.
fn start_of_extension(
    connection: &Connection,
    id: CoValueId,
    session: &SessionRow,
    have: u64,
) -> Result<u64, Fault> {
    if have == 0 {
        return Ok(0);
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

/// A log as it is read, transaction by transaction.
struct Log<'a> {
    id: CoValueId,
    stored: &'a StoredSession,
    owner: u32,
    /// Where the extension at hand begins.
    begin: u64,
    /// What was read of it.
    read: Vec<Transaction>,
}

/// The end of an extension.
struct End {
    position: u64,
    signature: Signature,
    checkpoint: bool,
}

impl Log<'_> {
    fn position(&self) -> u64 {
        self.begin + self.read.len() as u64
    }

    /// Reads the next transaction, and tells if an extension ends with it.
    fn next(&mut self, row: &Row<'_>) -> Result<Option<End>, Fault> {
        let position = self.position();
        if row.get::<_, u64>(0)? != position {
            return Err(self.damaged(&format!("transaction {position} is missing")));
        }
        let json = text(row, 1).map_err(|reason| self.damaged(&reason))?;
        let json = Bytes::copy_from_slice(json.as_bytes());
        let transaction = Transaction::parse(&json, &limits()).map_err(|error| {
            self.damaged(&format!("transaction {position} cannot be read: {error}"))
        })?;
        self.read.push(transaction);
        let position = position + 1;
        let session = &self.stored.session;
        let last = (position == self.stored.count).then_some(self.stored.last_signature);
        let checkpoint = match row.get_ref(2)? {
            rusqlite::types::ValueRef::Null => None,
            _ => Some(signature(self.id, session, row, 2)?),
        };
        let extension = self.extension(row)?;
        let signatures =
            [last, checkpoint, extension.as_ref().map(|extension| extension.signature)];
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

    fn extension(&self, row: &Row<'_>) -> Result<Option<ExtensionRow>, Fault> {
        if row.get::<_, Option<u32>>(3)? != Some(self.owner) {
            return Ok(None);
        }
        let signature = signature(self.id, &self.stored.session, row, 5)?;
        Ok(Some(ExtensionRow { after: row.get(4)?, signature, checksum: row.get(6)? }))
    }

    fn check(&self, extension: &ExtensionRow) -> Result<(), Fault> {
        let ExtensionRow { after, signature, checksum: expected } = extension;
        // What the reference has appended before it was never checked.
        let transactions = after
            .checked_sub(self.begin)
            .and_then(|before| self.read.get(usize::try_from(before).ok()?..))
            .ok_or_else(|| self.damaged("the beginning of an extension"))?;
        if checksum(*after, signature, transactions) != *expected {
            let reason = format!("the transactions from {after} on have been changed");
            return Err(self.damaged(&reason));
        }
        Ok(())
    }

    fn damaged(&self, reason: &str) -> Fault {
        in_session(self.id, &self.stored.session, &reason)
    }
}

/// See [`Storage::list`](downbeat_storage::Storage::list).
pub(crate) fn list(
    connection: &Connection,
    after: Option<CoValueId>,
    limit: usize,
) -> Result<Vec<CoValueId>, Fault> {
    let query = "SELECT id FROM coValues WHERE id > ?1 ORDER BY id LIMIT ?2";
    ids(connection, query, "coValues", after, limit)
}

/// See [`Storage::erasable`](downbeat_storage::Storage::erasable).
pub(crate) fn erasable(
    connection: &Connection,
    after: Option<CoValueId>,
    limit: usize,
) -> Result<Vec<CoValueId>, Fault> {
    let query = "SELECT d.coValueID FROM deletedCoValues d
        WHERE d.status = 0 AND d.coValueID > ?1
        AND EXISTS (SELECT 1 FROM coValues c WHERE c.id = d.coValueID)
        ORDER BY d.coValueID LIMIT ?2";
    ids(connection, query, "deletedCoValues", after, limit)
}

fn ids(
    connection: &Connection,
    query: &str,
    table: &str,
    after: Option<CoValueId>,
    limit: usize,
) -> Result<Vec<CoValueId>, Fault> {
    let mut query = connection.prepare_cached(query)?;
    let after = after.as_ref().map_or("", CoValueId::as_str);
    let mut rows = query.query((after, sql_limit(limit)))?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        ids.push(co_value_id(row, table)?);
    }
    Ok(ids)
}

/// See [`Storage::unsynced`](downbeat_storage::Storage::unsynced).
///
/// A peer of the reference may have a name that no upstream of ours can have. Such rows are the
/// reference's own, and stay as they are.
pub(crate) fn unsynced(
    connection: &Connection,
    after: Option<&Unsynced>,
    limit: usize,
) -> Result<Vec<Unsynced>, Fault> {
    const TABLE: &str = "unsynced_covalues";
    let mut query = connection.prepare_cached(
        "SELECT co_value_id, peer_id FROM unsynced_covalues
        WHERE (co_value_id, peer_id) > (?1, ?2)
        AND octet_length(peer_id) BETWEEN 1 AND ?4 AND instr(peer_id, char(0)) = 0
        ORDER BY co_value_id, peer_id LIMIT ?3",
    )?;
    let (id, name) = after.map_or(("", ""), |after| (after.id.as_str(), after.upstream.as_str()));
    let mut rows = query.query((id, name, sql_limit(limit), MAX_UPSTREAM_NAME_LEN))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let id = co_value_id(row, TABLE)?;
        let name = text(row, 1).map_err(|reason| Damage::in_record(TABLE, reason))?;
        let upstream =
            UpstreamName::new(name).map_err(|error| Damage::in_record(TABLE, error.to_string()))?;
        entries.push(Unsynced { id, upstream });
    }
    Ok(entries)
}

fn co_value_id(row: &Row<'_>, table: &str) -> Result<CoValueId, Fault> {
    let id = text(row, 0).map_err(|reason| Damage::in_record(table, reason))?;
    Ok(CoValueId::parse(id).map_err(|error| Damage::in_record(table, error.to_string()))?)
}

/// SQLite counts to 2^63 - 1, which is as good as no limit.
fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
