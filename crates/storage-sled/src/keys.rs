//! The keys of the records in the tree, in the order of scans.
//!
//! Every key starts with the letter of its key space. A text that is not the end of a key is
//! followed by a zero byte. It sorts before every character of an id, so keys sort like their
//! texts.

use downbeat_protocol::{CoValueId, SessionId};
use downbeat_storage::{Damage, Unsynced, UpstreamName};

/// CoValues, and the heads of their sessions. Together they make up a known state.
const HEADS: u8 = b'h';
/// The rest of long headers.
const HEADERS: u8 = b'l';
/// Extensions of session logs.
const LOGS: u8 = b't';
/// CoValues that wait for erasure.
const ERASABLE: u8 = b'd';
/// CoValues that an upstream has not acknowledged.
const UNSYNCED: u8 = b'u';
/// The totals.
pub(crate) const TOTALS: &[u8] = b"s";

const END: u8 = 0;

/// The bytes after the session in the key of a chunk: the number of transactions at the end of the
/// extension, and the number of the chunk.
const LOG_SUFFIX_LEN: usize = 8 + 4;

/// The key of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// A CoValue.
    CoValue(CoValueId),
    /// The head of a session.
    Head(CoValueId, SessionId),
    /// A chunk of a long header.
    HeaderChunk(CoValueId, u32),
    /// A chunk of a log: the number of transactions at the end of its extension, and its number.
    LogChunk(CoValueId, SessionId, u64, u32),
    /// A note that a CoValue is deleted.
    Deleted(CoValueId),
    /// The totals.
    Totals,
}

/// Parses a key. `None` for notes about upstreams, and for anything that is no key.
pub(crate) fn parse(key: &[u8]) -> Option<Key> {
    if key == TOTALS {
        return Some(Key::Totals);
    }
    let session = |text: &[u8]| SessionId::parse(str::from_utf8(text).ok()?).ok();
    let (id, rest) = parse_id(*key.first()?, key).ok()?;
    match *key.first()? {
        HEADS if rest.is_empty() => Some(Key::CoValue(id)),
        HEADS => Some(Key::Head(id, session(rest)?)),
        ERASABLE if rest.is_empty() => Some(Key::Deleted(id)),
        HEADERS => Some(Key::HeaderChunk(id, u32::from_be_bytes(rest.try_into().ok()?))),
        LOGS => {
            let (text, suffix) = rest.split_at_checked(rest.len().checked_sub(LOG_SUFFIX_LEN)?)?;
            let (end, chunk) = parse_log_chunk(suffix, &[])?;
            Some(Key::LogChunk(id, session(text.strip_suffix(&[END])?)?, end, chunk))
        }
        _ => None,
    }
}

/// The key of a CoValue's record, and the prefix of its sessions' heads.
pub(crate) fn co_value(id: CoValueId) -> Vec<u8> {
    key(HEADS, id, 0)
}

/// The head of a session.
pub(crate) fn head(id: CoValueId, session: &SessionId) -> Vec<u8> {
    let mut key = key(HEADS, id, session.as_str().len());
    key.extend_from_slice(session.as_str().as_bytes());
    key
}

/// The CoValue of a key in the space of heads.
pub(crate) fn parse_head(key: &[u8]) -> Result<CoValueId, Damage> {
    parse_id(HEADS, key).map(|(id, _)| id)
}

/// The session in the key of a head. The key begins with [`co_value`] of this id.
pub(crate) fn session_of_head(id: CoValueId, key: &[u8]) -> Option<&str> {
    let rest = key.strip_prefix(&[HEADS])?.strip_prefix(id.as_str().as_bytes())?;
    str::from_utf8(rest.strip_prefix(&[END])?).ok()
}

/// The range of heads after a CoValue and all its sessions.
pub(crate) fn heads_after(id: Option<CoValueId>) -> (Vec<u8>, Vec<u8>) {
    (after(HEADS, id), vec![HEADS + 1])
}

/// A chunk of a long header.
pub(crate) fn header_chunk(id: CoValueId, chunk: u32) -> Vec<u8> {
    let mut key = key(HEADERS, id, 4);
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

/// The prefix of the keys of a session's log.
pub(crate) fn log(id: CoValueId, session: &SessionId) -> Vec<u8> {
    let mut key = key(LOGS, id, session.as_str().len() + 1 + LOG_SUFFIX_LEN);
    key.extend_from_slice(session.as_str().as_bytes());
    key.push(END);
    key
}

/// A chunk of the extension that ends at this number of transactions. `log` is the prefix from
/// [`log`].
pub(crate) fn log_chunk(log: &[u8], end: u64, chunk: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(log.len() + LOG_SUFFIX_LEN);
    key.extend_from_slice(log);
    key.extend_from_slice(&end.to_be_bytes());
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

/// The number of transactions at the end of an extension, and the number of a chunk, from the key
/// of the chunk.
pub(crate) fn parse_log_chunk(key: &[u8], log: &[u8]) -> Option<(u64, u32)> {
    let (end, chunk) = key.strip_prefix(log)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*end), u32::from_be_bytes(chunk.try_into().ok()?)))
}

/// A CoValue that waits for erasure.
pub(crate) fn erasable(id: CoValueId) -> Vec<u8> {
    key(ERASABLE, id, 0)
}

/// The CoValue of a key in the space of erasable CoValues.
pub(crate) fn parse_erasable(key: &[u8]) -> Result<CoValueId, Damage> {
    parse_id(ERASABLE, key).map(|(id, _)| id)
}

/// The range of erasable CoValues after one.
pub(crate) fn erasable_after(id: Option<CoValueId>) -> (Vec<u8>, Vec<u8>) {
    (after(ERASABLE, id), vec![ERASABLE + 1])
}

/// A CoValue that an upstream has not acknowledged.
pub(crate) fn unsynced(entry: &Unsynced) -> Vec<u8> {
    let mut key = key(UNSYNCED, entry.id, entry.upstream.as_str().len());
    key.extend_from_slice(entry.upstream.as_str().as_bytes());
    key
}

/// The entry of a key in the space of unsynced CoValues.
pub(crate) fn parse_unsynced(key: &[u8]) -> Result<Unsynced, Damage> {
    let (id, rest) = parse_id(UNSYNCED, key)?;
    let upstream = str::from_utf8(rest).ok().and_then(|name| UpstreamName::new(name).ok());
    upstream.map(|upstream| Unsynced { id, upstream }).ok_or_else(|| bad_key(key))
}

/// The range of unsynced entries after one.
pub(crate) fn unsynced_after(entry: Option<&Unsynced>) -> (Vec<u8>, Vec<u8>) {
    let start = entry.map_or_else(
        || vec![UNSYNCED],
        |entry| {
            let mut key = unsynced(entry);
            key.push(END);
            key
        },
    );
    (start, vec![UNSYNCED + 1])
}

fn key(space: u8, id: CoValueId, more: usize) -> Vec<u8> {
    let id = id.as_str().as_bytes();
    let mut key = Vec::with_capacity(1 + id.len() + 1 + more);
    key.push(space);
    key.extend_from_slice(id);
    key.push(END);
    key
}

/// The first key of a space after all keys of `id`.
fn after(space: u8, id: Option<CoValueId>) -> Vec<u8> {
    let Some(id) = id else { return vec![space] };
    let mut key = key(space, id, 0);
    if let Some(end) = key.last_mut() {
        *end = END + 1;
    }
    key
}

fn parse_id(space: u8, key: &[u8]) -> Result<(CoValueId, &[u8]), Damage> {
    key.strip_prefix(&[space])
        .and_then(|key| {
            let end = key.iter().position(|&byte| byte == END)?;
            let (id, rest) = key.split_at(end);
            let id = CoValueId::parse(str::from_utf8(id).ok()?).ok()?;
            Some((id, rest.get(1..)?))
        })
        .ok_or_else(|| bad_key(key))
}

fn bad_key(key: &[u8]) -> Damage {
    Damage::in_record(format!("key {}", key.escape_ascii()), "not a key of this store")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> CoValueId {
        CoValueId::parse(text).unwrap()
    }

    fn session(text: &str) -> SessionId {
        SessionId::parse(text).unwrap()
    }

    #[test]
    fn keys_of_heads_sort_by_covalue_then_session_and_the_covalue_comes_first() {
        let (a, ab) = (id("co_za"), id("co_zab"));
        let (s, t) = (session("co_z1_session_zs"), session("co_z1_session_zt"));
        let keys = [co_value(a), head(a, &s), head(a, &t), co_value(ab), head(ab, &s)];
        assert!(keys.is_sorted());
    }

    #[test]
    fn a_head_key_can_be_read_back() {
        let (a, s) = (id("co_za"), session("co_z1_session_zs"));
        assert_eq!(parse_head(&head(a, &s)).unwrap(), a);
        assert_eq!(session_of_head(a, &head(a, &s)), Some(s.as_str()));
        assert_eq!(session_of_head(id("co_zb"), &head(a, &s)), None);
    }

    #[test]
    fn the_page_after_a_covalue_begins_behind_its_sessions_and_before_longer_ids() {
        let (a, ab) = (id("co_za"), id("co_zab"));
        let (start, end) = heads_after(Some(a));
        assert!(start > head(a, &session("co_zz_session_zz")));
        assert!(start < co_value(ab));
        assert!(end > co_value(id("co_zzzz")));
    }

    #[test]
    fn chunks_of_a_log_sort_by_their_end_and_can_be_read_back() {
        let log = log(id("co_za"), &session("co_z1_session_zs"));
        let keys = [log_chunk(&log, 1, 0), log_chunk(&log, 255, 1), log_chunk(&log, 256, 0)];
        assert!(keys.is_sorted());
        assert_eq!(parse_log_chunk(&keys[1], &log), Some((255, 1)));
        assert_eq!(parse_log_chunk(&keys[1][..keys[1].len() - 1], &log), None);
    }

    #[test]
    fn the_log_of_one_session_holds_no_keys_of_a_session_with_a_longer_id() {
        let a = id("co_za");
        let shorter = log(a, &session("co_z1_session_zs"));
        let longer = log(a, &session("co_z1_session_zss"));
        assert!(!longer.starts_with(&shorter));
        assert!(log_chunk(&shorter, u64::MAX, u32::MAX) < log_chunk(&longer, 0, 0));
    }

    #[test]
    fn keys_with_content_are_told_apart() {
        let (a, s) = (id("co_za"), session("co_z1_session_zs"));
        assert_eq!(parse(&co_value(a)), Some(Key::CoValue(a)));
        assert_eq!(parse(&head(a, &s)), Some(Key::Head(a, s.clone())));
        assert_eq!(parse(&header_chunk(a, 7)), Some(Key::HeaderChunk(a, 7)));
        assert_eq!(parse(&log_chunk(&log(a, &s), 300, 1)), Some(Key::LogChunk(a, s, 300, 1)));
        assert_eq!(parse(TOTALS), Some(Key::Totals));
        assert_eq!(parse(&erasable(a)), Some(Key::Deleted(a)));
        for other in [&b""[..], b"h", b"tco_za\0x", b"x"] {
            assert_eq!(parse(other), None);
        }
    }

    #[test]
    fn an_unsynced_key_can_be_read_back_and_stepped_over() {
        let entry = Unsynced { id: id("co_za"), upstream: UpstreamName::new("a:b/ü").unwrap() };
        let key = unsynced(&entry);
        assert_eq!(parse_unsynced(&key).unwrap(), entry);
        assert!(unsynced_after(Some(&entry)).0 > key);
        let longer = Unsynced { upstream: UpstreamName::new("a:b/üa").unwrap(), ..entry.clone() };
        assert!(unsynced_after(Some(&entry)).0 < unsynced(&longer));
    }

    #[test]
    fn a_key_that_is_none_is_named() {
        let damage = parse_head(b"hco_z\xff\x00").unwrap_err();
        assert!(damage.to_string().contains("hco_z\\xff\\x00"), "{damage}");
        assert!(parse_head(b"").is_err());
        assert!(parse_head(b"hco_za").is_err());
    }
}
