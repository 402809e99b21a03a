//! BLAKE3 hashes of texts, headers, session counts and logs.

use std::fmt;
use std::fmt::Write as _;

use downbeat_protocol::{CoValueId, Header, LongHash, SHORT_HASH_LEN, SessionCounts, ShortHash};

/// The hash of a session's log: an incremental BLAKE3 hash of the concatenated canonical JSON of
/// its transactions.
///
/// A clone is an independent chain from the same position, so a candidate can be extended and
/// discarded. A chain takes about 2 KB, regardless of the length of the log. It is boxed, so that
/// moving it is cheap.
///
/// ```
/// use downbeat_crypto::{HashChain, hash};
///
/// let mut chain = HashChain::new();
/// chain.append(br#"{"changes":"[]","madeAt":1,"privacy":"trusting"}"#);
/// let checkpoint = chain.clone();
/// chain.append(br#"{"changes":"[]","madeAt":2,"privacy":"trusting"}"#);
/// assert_ne!(chain.head(), checkpoint.head());
/// assert_eq!(checkpoint.head(), hash(br#"{"changes":"[]","madeAt":1,"privacy":"trusting"}"#));
/// ```
#[derive(Clone, Default)]
pub struct HashChain(Box<blake3::Hasher>);

impl HashChain {
    /// The chain of an empty log.
    pub fn new() -> Self {
        Self(Box::default())
    }

    /// Adds the canonical JSON of the next transaction.
    pub fn append(&mut self, transaction: &[u8]) {
        self.0.update(transaction);
    }

    /// Adds the canonical JSON of several transactions. It takes half the time of adding them one
    /// by one, because BLAKE3 is fastest on several KB at once and most transactions are shorter.
    pub fn append_all<'a>(&mut self, transactions: impl IntoIterator<Item = &'a [u8]>) {
        /// Eight BLAKE3 chunks of 1 KB, enough for the widest vector registers.
        const BUFFER_LEN: usize = 8 << 10;

        let mut transactions = transactions.into_iter();
        let Some(first) = transactions.next() else { return };
        let Some(second) = transactions.next() else {
            // Most runs are one small edit, which needs no buffer.
            return self.append(first);
        };
        let mut buffer = Vec::with_capacity(BUFFER_LEN);
        for transaction in [first, second].into_iter().chain(transactions) {
            if buffer.len() + transaction.len() > BUFFER_LEN {
                self.append(&buffer);
                buffer.clear();
            }
            if transaction.len() > BUFFER_LEN {
                self.append(transaction);
            } else {
                buffer.extend_from_slice(transaction);
            }
        }
        self.append(&buffer);
    }

    /// The hash of all transactions so far, which signatures cover.
    pub fn head(&self) -> LongHash {
        LongHash::from_bytes(*self.0.finalize().as_bytes())
    }
}

impl fmt::Debug for HashChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HashChain").field(&self.head()).finish()
    }
}

/// The BLAKE3 hash of a canonical JSON text (`hash_z…`).
pub fn hash(json: &[u8]) -> LongHash {
    LongHash::from_bytes(*blake3::hash(json).as_bytes())
}

/// The first 19 bytes of the BLAKE3 hash of a canonical JSON text (`shortHash_z…`).
pub fn short_hash(json: &[u8]) -> ShortHash {
    ShortHash::from_bytes(short(json))
}

/// The id of the CoValue with this header: `co_z` and the short hash of [`Header::hashed_json`].
pub fn header_id(header: &Header) -> CoValueId {
    CoValueId::from_short_hash(&short(header.hashed_json()))
}

/// The short hash of session counts. Peers compare it in RECONCILE messages.
///
/// It is the hash of the canonical JSON of the map from session id to count. Session ids are ASCII
/// without characters that need escapes, so [`SessionCounts`] are already in canonical order.
pub fn sessions_hash(sessions: &SessionCounts) -> ShortHash {
    /// Room for the id of an account's session and its count.
    const USUAL_ENTRY_LEN: usize = 64;

    let mut json = String::with_capacity(2 + sessions.len() * USUAL_ENTRY_LEN);
    json.push('{');
    for (index, (session, count)) in sessions.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        write!(json, "{separator}\"{session}\":{count}")
            .expect("writing to a string does not fail");
    }
    json.push('}');
    short_hash(json.as_bytes())
}

fn short(json: &[u8]) -> [u8; SHORT_HASH_LEN] {
    let hash = blake3::hash(json);
    let (head, _) =
        hash.as_bytes().split_first_chunk().expect("a BLAKE3 hash has 32 bytes, more than 19");
    *head
}

#[cfg(test)]
mod tests {
    use downbeat_protocol::SessionId;

    use super::*;

    #[test]
    fn a_chain_hashes_the_concatenation_of_its_transactions() {
        let mut chain = HashChain::new();
        chain.append(b"one");
        chain.append(b"two");
        assert_eq!(chain.head(), hash(b"onetwo"));
    }

    #[test]
    fn several_transactions_are_hashed_like_one_after_the_other() {
        for lens in [&[][..], &[0], &[3, 0, 5], &[5000, 5000, 1], &[1, 9000, 1], &[8192, 8192, 1]] {
            let transactions: Vec<_> = lens.iter().map(|len| vec![7; *len]).collect();
            let (mut together, mut apart) = (HashChain::new(), HashChain::new());
            together.append_all(transactions.iter().map(Vec::as_slice));
            for transaction in &transactions {
                apart.append(transaction);
            }
            assert_eq!(together.head(), apart.head(), "{lens:?}");
        }
    }

    #[test]
    fn reading_the_head_does_not_end_the_chain() {
        let mut chain = HashChain::new();
        chain.append(b"one");
        assert_eq!(chain.head(), chain.head());
        chain.append(b"two");
        assert_eq!(chain.head(), hash(b"onetwo"));
    }

    #[test]
    fn a_cloned_chain_goes_its_own_way() {
        let mut chain = HashChain::new();
        chain.append(&[7; 5000]);
        let mut fork = chain.clone();
        fork.append(b"fork");
        chain.append(b"main");
        assert_eq!(fork.head(), hash(&[&[7; 5000][..], b"fork"].concat()));
        assert_eq!(chain.head(), hash(&[&[7; 5000][..], b"main"].concat()));
    }

    #[test]
    fn a_sessions_map_is_hashed_as_canonical_json() {
        let session = |id: &str| SessionId::parse(id).unwrap();
        let counts = SessionCounts::from_iter([
            (session("co_zb_session_z2"), 12),
            (session("co_za_session_z1"), 3),
        ]);
        assert_eq!(
            sessions_hash(&counts),
            short_hash(br#"{"co_za_session_z1":3,"co_zb_session_z2":12}"#)
        );
        assert_eq!(sessions_hash(&SessionCounts::new()), short_hash(b"{}"));
    }
}
