//! The records in the tables. Their encoding is [`downbeat_storage::records`].
//!
//! The checksum of a record covers a key, so that a record in the wrong row is found. A key starts
//! with the letter of its kind. The rows have numbers in place of ids and sessions, but the keys
//! have their texts, so that a wrong number is found as well.

use downbeat_protocol::{CoValueId, SessionId, UpstreamName};
use serde::{Deserialize, Serialize};

/// Ends a text in a key. Sorts before every character of an id.
const END: u8 = 0;

/// Bits of a place in the log that hold the position within a session.
const POSITION_BITS: u32 = 32;

/// The state of a CoValue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateRecord {
    /// Whether there is a tombstone.
    pub(crate) deleted: bool,
    /// Sessions in the tables.
    pub(crate) sessions: u64,
}

/// The value of `hash` in the row of a CoValue.
pub(crate) fn hash(id: CoValueId) -> u32 {
    crc32fast::hash(id.as_str().as_bytes())
}

/// The value of `checksum` in the row of a CoValue that an upstream has not acknowledged.
pub(crate) fn note_checksum(id: CoValueId, upstream: &UpstreamName) -> u32 {
    let mut note = key(b'u', id, upstream.as_str().len());
    note.extend_from_slice(upstream.as_str().as_bytes());
    crc32fast::hash(&note)
}

/// The key of the state of a CoValue.
pub(crate) fn state_key(id: CoValueId) -> Vec<u8> {
    key(b'c', id, 0)
}

/// The key of the header of a CoValue.
pub(crate) fn header_key(id: CoValueId) -> Vec<u8> {
    key(b'h', id, 0)
}

/// The key of the head of a session.
pub(crate) fn head_key(id: CoValueId, session: &SessionId) -> Vec<u8> {
    let session = session.as_str().as_bytes();
    let mut key = key(b's', id, session.len());
    key.extend_from_slice(session);
    key
}

/// The key of the run of a session's log that ends with this number of transactions.
pub(crate) fn run_key(id: CoValueId, session: &SessionId, end: u64) -> Vec<u8> {
    let session = session.as_str().as_bytes();
    let mut key = key(b't', id, session.len() + 1 + size_of::<u64>());
    key.extend_from_slice(session);
    key.push(END);
    key.extend_from_slice(&end.to_be_bytes());
    key
}

fn key(kind: u8, id: CoValueId, more: usize) -> Vec<u8> {
    let id = id.as_str().as_bytes();
    let mut key = Vec::with_capacity(1 + id.len() + 1 + more);
    key.push(kind);
    key.extend_from_slice(id);
    key.push(END);
    key
}

/// The place in the log of the run that ends with this number of transactions: the number of the
/// session in the upper half, and the number of transactions in the lower. So the runs of a session
/// lie together, in their order. `None` if either number is too large.
pub(crate) fn place(ses: i64, end: u64) -> Option<i64> {
    let ses = u32::try_from(ses).ok().filter(|ses| i32::try_from(*ses).is_ok())?;
    Some(i64::from(ses) << POSITION_BITS | i64::from(u32::try_from(end).ok()?))
}

/// The session and the number of transactions of a place.
pub(crate) fn parse_place(place: i64) -> (i64, u64) {
    let mask = u64::from(u32::MAX);
    (place >> POSITION_BITS, place.cast_unsigned() & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_key_counts() {
        let (a, b) = (CoValueId::parse("co_z1").unwrap(), CoValueId::parse("co_z11").unwrap());
        let session = |text| SessionId::parse(text).unwrap();
        let (s, t) = (session("co_z1_session_z1"), session("co_z1_session_z11"));
        let keys = [
            state_key(a),
            state_key(b),
            header_key(a),
            head_key(a, &s),
            head_key(b, &s),
            run_key(a, &s, 1),
            run_key(a, &s, 2),
            run_key(a, &t, 1),
            run_key(b, &s, 1),
        ];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn places_sort_by_session_and_then_by_position() {
        let parts = [(1, 1), (1, u64::from(u32::MAX)), (2, 0), (i64::from(i32::MAX), 7)];
        let places = parts.map(|(ses, end)| place(ses, end).unwrap());
        assert!(places.is_sorted());
        assert_eq!(places.map(parse_place), parts);
        for (ses, end) in [(-1, 1), (1 << 31, 1), (1, 1 << 32)] {
            assert_eq!(place(ses, end), None);
        }
    }
}
