//! Records: the values in the tree, with a version and a checksum.
//!
//! A record has one byte of version, four bytes of checksum (CRC-32 of the version, the key and the
//! body, little-endian), and the body. The checksum covers the key, so it also finds a record under
//! a wrong key.

use bincode::config::{self, Configuration};
use downbeat_storage::StoreStats;
use serde::{Deserialize, Serialize, Serializer};

/// The version of the records that are written.
const VERSION: u8 = 1;

/// Bytes before the body.
pub(crate) const PREFIX_LEN: usize = 1 + 4;

const ENCODING: Configuration = config::standard();

/// Why bytes are no record. The caller adds the name of the expected record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidRecord {
    #[error("the record is cut short")]
    Short,
    #[error("the record has version {0}, and only {VERSION} is known")]
    Version(u8),
    #[error("the checksum is wrong")]
    Checksum,
    #[error("the record does not decode: {0}")]
    Decode(String),
    #[error("{0}")]
    Content(&'static str),
}

/// A CoValue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CoValueRecord<'a> {
    /// Whether there is a tombstone.
    pub(crate) deleted: bool,
    /// The canonical JSON of the header, or its first chunk.
    #[serde(borrow, serialize_with = "as_bytes")]
    pub(crate) header: &'a [u8],
    /// The number of records with further chunks of the header.
    pub(crate) more_chunks: u64,
}

/// The state of a session's log.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct HeadRecord<'a> {
    /// Transactions.
    pub(crate) count: u64,
    /// Bytes since the last checkpoint.
    pub(crate) since_checkpoint: u64,
    /// Bytes of the transactions' JSON.
    pub(crate) bytes: u64,
    /// The signature of the log up to its end.
    pub(crate) signature: &'a str,
}

/// A chunk of an extension of a log. The bodies of all chunks, one after the other, are an
/// [`ExtensionRecord`] and the JSON of its transactions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChunkRecord<'a> {
    /// The number of chunks.
    pub(crate) chunks: u64,
    /// The bytes of this chunk.
    #[serde(borrow, serialize_with = "as_bytes")]
    pub(crate) body: &'a [u8],
}

/// The description of an extension. The JSON of its transactions follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExtensionRecord<'a> {
    /// Whether the log has a checkpoint at the end of the extension.
    pub(crate) checkpoint: bool,
    /// The signature of the log up to the end of the extension.
    pub(crate) signature: &'a str,
    /// Bytes of each transaction's JSON.
    pub(crate) lengths: Vec<u64>,
}

/// The totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TotalsRecord {
    /// Batches applied since the store was created. See [`Watermark`](crate::watermark::Watermark).
    pub(crate) batches: u64,
    pub(crate) co_values: u64,
    pub(crate) deleted: u64,
    pub(crate) sessions: u64,
    pub(crate) transactions: u64,
    pub(crate) transaction_bytes: u64,
}

impl TotalsRecord {
    pub(crate) fn stats(self, disk_bytes: Option<u64>) -> StoreStats {
        StoreStats {
            co_values: self.co_values,
            deleted: self.deleted,
            sessions: self.sessions,
            transactions: self.transactions,
            transaction_bytes: self.transaction_bytes,
            disk_bytes,
        }
    }
}

/// Serialises a slice with one call, where serde would take a call for each byte. The bytes are the
/// same.
fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// A record with a bincode body.
pub(crate) fn encode(key: &[u8], body: &impl Serialize, len_hint: usize) -> Vec<u8> {
    let mut record = Vec::with_capacity(PREFIX_LEN + len_hint);
    record.push(VERSION);
    record.extend_from_slice(&[0; 4]);
    encode_into(&mut record, body);
    let (prefix, body) = record.split_at_mut(PREFIX_LEN);
    prefix[1..].copy_from_slice(&checksum(&[key], body).to_le_bytes());
    record
}

/// Appends the bincode of a body.
pub(crate) fn encode_into(bytes: &mut Vec<u8>, body: &impl Serialize) {
    bincode::serde::encode_into_std_write(body, bytes, ENCODING)
        .expect("the records hold nothing that bincode cannot encode, and a Vec takes any bytes");
}

/// Checks a record and decodes its body.
pub(crate) fn decode<'a, T: Deserialize<'a>>(
    key: &[u8],
    record: &'a [u8],
) -> Result<T, InvalidRecord> {
    let (version, rest) = record.split_first().ok_or(InvalidRecord::Short)?;
    let (sum, body) = rest.split_first_chunk().ok_or(InvalidRecord::Short)?;
    if *version != VERSION {
        return Err(InvalidRecord::Version(*version));
    }
    if u32::from_le_bytes(*sum) != checksum(&[key], body) {
        return Err(InvalidRecord::Checksum);
    }
    let (value, rest) = decode_from(body)?;
    if rest.is_empty() { Ok(value) } else { Err(InvalidRecord::Content("bytes are left over")) }
}

/// Whether these bytes are a record with a right checksum under this key.
pub(crate) fn is_intact(key: &[&[u8]], record: &[u8]) -> bool {
    let Some((VERSION, rest)) = record.split_first().map(|(version, rest)| (*version, rest)) else {
        return false;
    };
    let Some((sum, body)) = rest.split_first_chunk() else { return false };
    u32::from_le_bytes(*sum) == checksum(key, body)
}

/// Decodes a body, and returns the bytes after it.
pub(crate) fn decode_from<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), InvalidRecord> {
    let (value, len) = bincode::serde::borrow_decode_from_slice(bytes, ENCODING)
        .map_err(|error| InvalidRecord::Decode(error.to_string()))?;
    Ok((value, bytes.get(len..).ok_or(InvalidRecord::Short)?))
}

/// The key is given in parts.
fn checksum(key: &[&[u8]], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[VERSION]);
    for part in key {
        hasher.update(part);
    }
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: HeadRecord<'_> =
        HeadRecord { count: 70_000, since_checkpoint: 3, bytes: 900, signature: "signature_z1" };

    #[test]
    fn a_record_comes_back_under_its_key() {
        let record = encode(b"key", &HEAD, 0);
        assert_eq!(decode::<HeadRecord<'_>>(b"key", &record), Ok(HEAD));
    }

    #[test]
    fn a_record_under_another_key_is_refused() {
        let record = encode(b"key", &HEAD, 0);
        assert_eq!(decode::<HeadRecord<'_>>(b"kez", &record), Err(InvalidRecord::Checksum));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let record = encode(b"key", &HEAD, 0);
        for bit in 0..record.len() * 8 {
            let mut damaged = record.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<HeadRecord<'_>>(b"key", &damaged).is_err(), "bit {bit}");
        }
        for len in 0..record.len() {
            assert!(decode::<HeadRecord<'_>>(b"key", &record[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn the_bytes_of_a_record_are_the_documented_ones() {
        let record = encode(b"key", &ChunkRecord { chunks: 3, body: b"body" }, 4);
        assert_eq!(record[0], 1);
        let mut sum = crc32fast::Hasher::new();
        sum.update(b"\x01key\x03\x04body");
        assert_eq!(record[1..5], sum.finalize().to_le_bytes());
        assert_eq!(record[5..], *b"\x03\x04body");
    }

    #[test]
    fn a_newer_record_is_named_as_such() {
        let mut record = encode(b"key", &HEAD, 0);
        record[0] = 2;
        assert_eq!(decode::<HeadRecord<'_>>(b"key", &record), Err(InvalidRecord::Version(2)));
    }

    #[test]
    fn bytes_behind_the_body_are_refused() {
        let record = encode(b"key", &(HEAD, 7_u8), 0);
        assert_eq!(
            decode::<HeadRecord<'_>>(b"key", &record),
            Err(InvalidRecord::Content("bytes are left over"))
        );
    }
}
