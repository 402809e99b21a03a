//! Reads the log of a session.

use bytes::{Bytes, BytesMut};
use downbeat_protocol::{CoValueId, SessionId, Signature, Transaction};
use downbeat_storage::records::{
    ExtensionRecord, InvalidRecord, decode_extension, split_transactions,
};
use downbeat_storage::{Extension, Runs};
use rusqlite::Connection;

use super::co_values::{Head, blob};
use super::record::{extension_key, parse_place, place};
use crate::error::{FileError, in_session};

/// The JSON of small extensions shares buffers of this size, in bytes.
const BUFFER: usize = 4 << 10;

/// Reads a log beyond `have`. Returns whether there is budget for more.
pub(crate) fn read(
    connection: &Connection,
    id: CoValueId,
    (session, head): (&SessionId, &Head),
    have: u64,
    runs: &mut Runs,
) -> Result<bool, FileError> {
    let mut query = connection.prepare_cached(
        "SELECT place, record FROM log WHERE place > ?1 AND place <= ?2 ORDER BY place",
    )?;
    let mut rows = query.query((place(head.ses, have), place(head.ses, head.count)))?;
    let mut buffer = BytesMut::new();
    let (mut position, mut invalid) = (have, None);
    while position < head.count {
        let Some(row) = rows.next()? else {
            let reason = format!("transactions are missing from {position} on");
            return Err(invalid.unwrap_or_else(|| in_session(id, session, &reason)));
        };
        let (_, end) = parse_place(row.get(0)?);
        match extension(id, session, (position, end), blob(row, 1)?, &mut buffer) {
            Ok(extension) if end == head.count && extension.signature != head.signature => {
                return Err(in_session(id, session, &"its last two signatures differ"));
            }
            Ok(extension) => {
                position = end;
                if !runs.push(session, extension) {
                    return Ok(false);
                }
            }
            // If nothing is missing without it, it is of another session, and its place has changed.
            Err(reason) => {
                let reason = format!("the extension up to transaction {end}: {reason}");
                invalid.get_or_insert_with(|| in_session(id, session, &reason));
            }
        }
    }
    Ok(true)
}

/// The extension that ends at `end`, from a position on.
fn extension(
    id: CoValueId,
    session: &SessionId,
    (position, end): (u64, u64),
    record: &[u8],
    buffer: &mut BytesMut,
) -> Result<Extension<Vec<Transaction>>, InvalidRecord> {
    let key = extension_key(id, session, end);
    let (ExtensionRecord { checkpoint, signature, lengths }, json) =
        decode_extension(&key, record)?;
    let known = end
        .checked_sub(lengths.len() as u64)
        .and_then(|start| position.checked_sub(start))
        .ok_or(InvalidRecord::Content("transactions are missing before it"))?;
    let transactions = split_transactions(&copy(buffer, json), &lengths, known)?;
    let signature = Signature::parse(signature)
        .map_err(|_| InvalidRecord::Content("the signature is malformed"))?;
    Ok(Extension { after: position, transactions, signature, checkpoint })
}

fn copy(buffer: &mut BytesMut, json: &[u8]) -> Bytes {
    if json.len() > buffer.capacity() {
        if json.len() > BUFFER / 2 {
            return Bytes::copy_from_slice(json);
        }
        *buffer = BytesMut::with_capacity(BUFFER);
    }
    buffer.extend_from_slice(json);
    buffer.split().freeze()
}
