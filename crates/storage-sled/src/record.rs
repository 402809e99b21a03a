//! The records of the tree. Their encoding is that of [`downbeat_storage::records`].

use downbeat_storage::StoreStats;
pub(crate) use downbeat_storage::records::{
    ExtensionRecord, HeadRecord, PREFIX_LEN, decode, decode_from, encode, encode_extension_into,
    is_intact, split_transactions,
};
use serde::{Deserialize, Serialize, Serializer};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_record_are_the_documented_ones() {
        let record = encode(b"key", &ChunkRecord { chunks: 3, body: b"body" }, 4);
        assert_eq!(record[0], 1);
        let mut sum = crc32fast::Hasher::new();
        sum.update(b"\x01key\x03\x04body");
        assert_eq!(record[1..5], sum.finalize().to_le_bytes());
        assert_eq!(record[5..], *b"\x03\x04body");
    }
}
