//! Content of any length, cut into records of bounded length.
//!
//! sled writes a tree node as a whole. It puts a node of more than a quarter of a segment into a
//! file of its own, which it never syncs. A leaf holds up to about 20 records, so the length of a
//! record is bounded such that 20 of them fit into a quarter of a segment.

use bytes::{Bytes, BytesMut};
use downbeat_protocol::{CoValueId, Header, Limits, SessionId, Signature, Transaction};
use downbeat_storage::{Damage, Extension, StorageError};

use crate::keys;
use crate::record::{self, ChunkRecord, CoValueRecord, ExtensionRecord};
use crate::tree::{Records, Tree};

/// Content in one record, in bytes.
///
/// sled keeps whole leaves in memory, and checks the size of its cache only after 64 accesses to a
/// part of it. So large leaves exceed the cache: reading 400 MB took 430 MB of memory with records
/// three times as long, and takes 250 MB with this length. Shorter records would be more records.
/// With the longest key (about 300 bytes) and the prefix of a record, 20 records are far below the
/// 524,268 bytes of a quarter of a segment ([`SEGMENT_SIZE`](crate::open::SEGMENT_SIZE)).
pub(crate) const MAX_CHUNK_LEN: usize = 8_000;

/// Stored content was checked when it was accepted, so there are no limits.
const STORED: Limits = Limits::unlimited();

/// Encodes an extension, and passes each of its records to `insert`.
pub(crate) fn encode_extension(
    log: &[u8],
    end: u64,
    transactions: &[Transaction],
    signature: &Signature,
    checkpoint: bool,
    mut insert: impl FnMut(Vec<u8>, Vec<u8>),
) {
    let mut bytes = Vec::new();
    record::encode_extension_into(&mut bytes, transactions, signature, checkpoint);
    let bodies = bytes.chunks(MAX_CHUNK_LEN);
    let chunks = bodies.len() as u64;
    for (chunk, body) in (0..).zip(bodies) {
        let key = keys::log_chunk(log, end, chunk);
        let value = record::encode(&key, &ChunkRecord { chunks, body }, body.len());
        insert(key, value);
    }
}

/// Encodes a CoValue, and passes each of its records to `insert`.
pub(crate) fn encode_co_value(
    id: CoValueId,
    header: &Header,
    deleted: bool,
    mut insert: impl FnMut(Vec<u8>, Vec<u8>),
) {
    let mut bodies = header.json().chunks(MAX_CHUNK_LEN);
    let first = bodies.next().unwrap_or_default();
    let chunks = bodies.len() as u64;
    let co_value = CoValueRecord { deleted, header: first, more_chunks: chunks };
    let key = keys::co_value(id);
    let value = record::encode(&key, &co_value, first.len());
    insert(key, value);
    for (chunk, body) in (0..).zip(bodies) {
        let key = keys::header_chunk(id, chunk);
        let value = record::encode(&key, &ChunkRecord { chunks, body }, body.len());
        insert(key, value);
    }
}

/// Reads the header of a CoValue. A long header continues in further records, which `get` returns.
pub(crate) fn read_header<B: AsRef<[u8]>>(
    get: impl Fn(&[u8]) -> Result<Option<B>, StorageError>,
    id: CoValueId,
    co_value: &CoValueRecord<'_>,
) -> Result<Header, StorageError> {
    let damaged = |reason: String| Damage::in_co_value(id, reason);
    let mut json = BytesMut::from(co_value.header);
    for chunk in (0..).take_while(|&chunk| u64::from(chunk) < co_value.more_chunks) {
        let key = keys::header_chunk(id, chunk);
        let value = get(&key)?.ok_or_else(|| damaged("a chunk of the header is missing".into()))?;
        let chunk: ChunkRecord<'_> = record::decode(&key, value.as_ref())
            .map_err(|error| damaged(format!("header: {error}")))?;
        json.extend_from_slice(chunk.body);
    }
    Header::parse(&json.freeze(), &STORED)
        .map_err(|error| damaged(format!("the header does not parse: {error}")).into())
}

/// The extensions of a session's log from a position on.
pub(crate) struct Log<'a, R = Records<'a>> {
    records: R,
    key: Vec<u8>,
    id: CoValueId,
    session: &'a SessionId,
    position: u64,
}

impl<'a> Log<'a> {
    /// The log of a session, beyond its first `position` transactions.
    pub(crate) fn new(
        tree: &'a Tree,
        id: CoValueId,
        session: &'a SessionId,
        position: u64,
    ) -> Self {
        let key = keys::log(id, session);
        let start = keys::log_chunk(&key, position.saturating_add(1), 0);
        let end = keys::log_chunk(&key, u64::MAX, u32::MAX);
        Self::over(tree.range((start, end)), id, session, position)
    }
}

impl<'a, R, B> Log<'a, R>
where
    R: Iterator<Item = Result<(B, B), StorageError>>,
    B: AsRef<[u8]>,
{
    /// The log in these records: keys and values, from the extension after `position` on.
    pub(crate) fn over(records: R, id: CoValueId, session: &'a SessionId, position: u64) -> Self {
        Self { records, key: keys::log(id, session), id, session, position }
    }

    /// The number of transactions before the next extension.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next extension, without the transactions before the position. `None` at the end of the
    /// log.
    pub(crate) fn next(&mut self) -> Result<Option<Extension<Vec<Transaction>>>, StorageError> {
        let Some((end, bytes)) = self.join_chunks()? else { return Ok(None) };
        let (extension, json): (ExtensionRecord<'_>, _) =
            record::decode_from(&bytes).map_err(|error| self.damaged(end, &error.to_string()))?;
        let after = self.position;
        let skip = end
            .checked_sub(extension.lengths.len() as u64)
            .and_then(|start| after.checked_sub(start))
            .ok_or_else(|| self.damaged(end, "transactions are missing before it"))?;
        let json = bytes.slice_ref(json);
        let transactions = record::split_transactions(&json, &extension.lengths, skip)
            .map_err(|error| self.damaged(end, &error.to_string()))?;
        let signature = Signature::parse(extension.signature)
            .map_err(|error| self.damaged(end, &error.to_string()))?;
        self.position = end;
        Ok(Some(Extension { after, transactions, signature, checkpoint: extension.checkpoint }))
    }

    /// The bytes of the next extension, and the number of transactions at its end.
    fn join_chunks(&mut self) -> Result<Option<(u64, Bytes)>, StorageError> {
        let mut joined: Option<(u64, BytesMut)> = None;
        let mut chunk = 0_u64;
        loop {
            let Some(entry) = self.records.next() else {
                return match joined {
                    Some((end, _)) => Err(self.damaged(end, "its last chunk is missing").into()),
                    None => Ok(None),
                };
            };
            let (key, value) = entry?;
            let (key, value) = (key.as_ref(), value.as_ref());
            let Some((end, number)) = keys::parse_log_chunk(key, &self.key) else {
                return Err(self.damaged(self.position, "the key after it is malformed").into());
            };
            let record: ChunkRecord<'_> = record::decode(key, value)
                .map_err(|error| self.damaged(end, &error.to_string()))?;
            let bytes = &mut joined.get_or_insert_with(|| (end, BytesMut::new())).1;
            bytes.extend_from_slice(record.body);
            if u64::from(number) != chunk || joined.as_ref().is_some_and(|&(first, _)| first != end)
            {
                return Err(self.damaged(end, "a chunk is missing").into());
            }
            chunk += 1;
            if chunk == record.chunks {
                return Ok(joined.map(|(end, bytes)| (end, bytes.freeze())));
            }
        }
    }

    fn damaged(&self, end: u64, reason: &str) -> Damage {
        let reason = format!("the extension up to transaction {end}: {reason}");
        Damage::in_session(self.id, self.session, reason)
    }
}
