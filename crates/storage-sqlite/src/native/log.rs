//! Reads the log of a session.

use bytes::{Bytes, BytesMut};
use downbeat_protocol::{CoValueId, SessionId, Signature, Transaction};
use downbeat_storage::records::{
    ExtensionRecord, InvalidRecord, decode_extensions, split_transactions,
};
use downbeat_storage::{Extension, Runs};
use rusqlite::Connection;

use super::co_values::{Head, blob};
use super::record::{parse_place, place, run_key};
use crate::error::{FileError, in_session};

/// The JSON of small extensions shares buffers of this size, in bytes.
const BUFFER: usize = 4 << 10;

/// The runs of a log between two places.
const RUNS: &str = "SELECT place, record FROM log WHERE place > ?1 AND place <= ?2 ORDER BY place";

/// The tail of the same log, which ends at the second place.
const TAIL: &str = "SELECT ?2, record FROM tails WHERE ses = ?1 >> 32";

/// Reads a log beyond `have`. Returns whether there is budget for more.
pub(crate) fn read(
    connection: &Connection,
    id: CoValueId,
    (session, head): (&SessionId, &Head),
    have: u64,
    runs: &mut Runs,
) -> Result<bool, FileError> {
    let mut buffer = BytesMut::new();
    let (mut position, mut invalid) = (have, None);
    for query in [RUNS, TAIL] {
        if position == head.count {
            break;
        }
        let mut query = connection.prepare_cached(query)?;
        let mut rows = query.query((place(head.ses, have), place(head.ses, head.count)))?;
        while position < head.count
            && let Some(row) = rows.next()?
        {
            let (_, end) = parse_place(row.get(0)?);
            match extensions(id, session, (position, end), blob(row, 1)?, &mut buffer) {
                Ok(extensions) => {
                    let signature = extensions.last().map(|last| last.signature);
                    if end == head.count && signature != Some(head.signature) {
                        return Err(in_session(id, session, &"its last two signatures differ"));
                    }
                    position = end;
                    for extension in extensions {
                        if !runs.push(session, extension) {
                            return Ok(false);
                        }
                    }
                }
                // If nothing is missing without it, it is of another session, and its place has
                // changed.
                Err(reason) => {
                    let reason = format!("the run up to transaction {end}: {reason}");
                    invalid.get_or_insert_with(|| in_session(id, session, &reason));
                }
            }
        }
    }
    if position < head.count {
        let reason = format!("transactions are missing from {position} on");
        return Err(invalid.unwrap_or_else(|| in_session(id, session, &reason)));
    }
    Ok(true)
}

/// The extensions of the run that ends at `end`, from a position on.
fn extensions(
    id: CoValueId,
    session: &SessionId,
    (position, end): (u64, u64),
    record: &[u8],
    buffer: &mut BytesMut,
) -> Result<Vec<Extension<Vec<Transaction>>>, InvalidRecord> {
    let parts = decode_extensions(&run_key(id, session, end), record)?;
    let count: usize = parts.iter().map(|(part, _)| part.lengths.len()).sum();
    let mut start = end
        .checked_sub(count as u64)
        .filter(|start| *start <= position)
        .ok_or(InvalidRecord::Content("transactions are missing before it"))?;
    let mut extensions = Vec::with_capacity(parts.len());
    for (ExtensionRecord { checkpoint, signature, lengths }, json) in parts {
        let end = start + lengths.len() as u64;
        if end > position {
            let known = position.saturating_sub(start);
            let transactions = split_transactions(&copy(buffer, json), &lengths, known)?;
            let signature = Signature::parse(signature)
                .map_err(|_| InvalidRecord::Content("a signature is malformed"))?;
            extensions.push(Extension {
                after: start + known,
                transactions,
                signature,
                checkpoint,
            });
        }
        start = end;
    }
    Ok(extensions)
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
