//! Reads from the tables that both schemas have. Each function sees one snapshot.

use std::fmt;

use downbeat_protocol::CoValueId;
use downbeat_storage::{Damage, MAX_UPSTREAM_NAME_LEN, Unsynced, UpstreamName};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use tracing::error;

use crate::error::FileError;
use crate::native;
use crate::schema::SqliteSchema;

/// See [`Storage::list`](downbeat_storage::Storage::list). A CoValue whose id cannot be read is left
/// out and logged: it cannot be loaded by its id either, and the others must still be found.
pub(crate) fn list(
    connection: &Connection,
    after: Option<CoValueId>,
    limit: usize,
) -> Result<Vec<CoValueId>, FileError> {
    // The order is that of the index, which has no checksums: each of its ids is compared with that
    // of the table.
    let query = "SELECT id, rowID, (SELECT id FROM coValues NOT INDEXED WHERE rowID = entry.rowID)
        FROM coValues AS entry WHERE id > ?1 ORDER BY id";
    let mut query = connection.prepare_cached(query)?;
    let mut rows = query.query([after.as_ref().map_or("", CoValueId::as_str)])?;
    let (mut ids, mut count, mut first) = (Vec::new(), 0_u64, None);
    while ids.len() < limit
        && let Some(row) = rows.next()?
    {
        match listed_id(row) {
            Ok(id) => ids.push(id),
            Err(FileError::Damage(damage)) => {
                count += 1;
                first.get_or_insert(damage);
            }
            Err(error) => return Err(error),
        }
    }
    // One line about all of them.
    if let Some(first) = first {
        error!(count, %first, "CoValues with a damaged id are left out of a list");
    }
    Ok(ids)
}

/// See [`Storage::erasable`](downbeat_storage::Storage::erasable).
pub(crate) fn erasable(
    connection: &Connection,
    after: Option<CoValueId>,
    limit: usize,
) -> Result<Vec<CoValueId>, FileError> {
    let query = "SELECT d.coValueID FROM deletedCoValues d
        WHERE d.status = 0 AND d.coValueID > ?1
        AND EXISTS (SELECT 1 FROM coValues c WHERE c.id = d.coValueID)
        ORDER BY d.coValueID LIMIT ?2";
    let mut query = connection.prepare_cached(query)?;
    let after = after.as_ref().map_or("", CoValueId::as_str);
    let mut rows = query.query((after, sql_limit(limit)))?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        ids.push(co_value_id(row, "deletedCoValues")?);
    }
    Ok(ids)
}

/// Whether there is a tombstone with content that is not erased yet.
pub(crate) fn awaits_erasure(connection: &Connection, id: CoValueId) -> Result<bool, FileError> {
    let query = "SELECT 1 FROM deletedCoValues WHERE coValueID = ?1 AND status = 0";
    Ok(connection.prepare_cached(query)?.exists([id.as_str()])?)
}

/// The columns of notes of what upstreams have not acknowledged, with a third one.
macro_rules! notes_with {
    ($more:literal) => {
        concat!(
            "SELECT co_value_id, peer_id, ",
            $more,
            " FROM unsynced_covalues
            WHERE (co_value_id, peer_id) > (?1, ?2)
            AND octet_length(peer_id) BETWEEN 1 AND ?3 AND instr(peer_id, char(0)) = 0
            ORDER BY co_value_id, peer_id"
        )
    };
}

/// See [`Storage::unsynced`](downbeat_storage::Storage::unsynced). A damaged note is left out and
/// logged: it does not tell its CoValue, and the others must still be found.
///
/// A peer of the reference may have a name that is no [`UpstreamName`]. Such rows belong to the
/// reference, and are left as they are.
pub(crate) fn unsynced(
    connection: &Connection,
    schema: SqliteSchema,
    after: Option<&Unsynced>,
    limit: usize,
) -> Result<Vec<Unsynced>, FileError> {
    let mut query = connection.prepare_cached(match schema {
        SqliteSchema::Reference => notes_with!("NULL"),
        SqliteSchema::Native => notes_with!("checksum"),
    })?;
    let (id, name) = after.map_or(("", ""), |after| (after.id.as_str(), after.upstream.as_str()));
    let mut rows = query.query((id, name, MAX_UPSTREAM_NAME_LEN))?;
    let (mut entries, mut count, mut first) = (Vec::new(), 0_u64, None);
    while entries.len() < limit
        && let Some(row) = rows.next()?
    {
        match note(schema, row) {
            Ok(entry) => entries.push(entry),
            Err(FileError::Damage(damage)) => {
                count += 1;
                first.get_or_insert(damage);
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(first) = first {
        error!(count, %first, "damaged notes of what upstreams lack are left out");
    }
    Ok(entries)
}

fn note(schema: SqliteSchema, row: &Row<'_>) -> Result<Unsynced, FileError> {
    const TABLE: &str = "unsynced_covalues";
    let damage = |reason: &dyn fmt::Display| Damage::in_record(TABLE, reason.to_string());
    let id = co_value_id(row, TABLE)?;
    let name = text(row, 1).map_err(|reason| damage(&reason))?;
    let upstream = UpstreamName::new(name).map_err(|error| damage(&error))?;
    let expected = ValueRef::Integer(native::note_checksum(id, &upstream).into());
    if schema == SqliteSchema::Native && row.get_ref(2)? != expected {
        return Err(damage(&format_args!("the checksum of the note of {id} is wrong")).into());
    }
    Ok(Unsynced { id, upstream })
}

/// The id of an entry of the index, if the table has the same.
fn listed_id(row: &Row<'_>) -> Result<CoValueId, FileError> {
    let id = co_value_id(row, "coValues")?;
    if text(row, 2) == Ok(id.as_str()) {
        return Ok(id);
    }
    let number: i64 = row.get(1)?;
    let reason = format!("its index names the CoValue of row {number} {id}, and it does not");
    Err(Damage::in_record("coValues", reason).into())
}

fn co_value_id(row: &Row<'_>, table: &str) -> Result<CoValueId, FileError> {
    let id = text(row, 0).map_err(|reason| Damage::in_record(table, reason))?;
    Ok(CoValueId::parse(id).map_err(|error| Damage::in_record(table, error.to_string()))?)
}

/// SQLite counts to 2^63 - 1, which means no limit.
fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The text in a column, or the reason why it is none.
pub(crate) fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, String> {
    row.get_ref(column)
        .map_err(|error| error.to_string())?
        .as_str()
        .map_err(|error| error.to_string())
}
