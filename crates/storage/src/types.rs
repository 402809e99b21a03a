//! The data that goes into a store and comes out of it.

use downbeat_protocol::{
    CoValueId, Header, KnownState, SessionContent, SessionCounts, SessionId, Signature,
    UpstreamName,
};

use crate::error::Damage;

/// One change to a store. The caller has verified its content.
///
/// Exhaustive on purpose: a backend must carry out every kind of write.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Extends sessions of a CoValue. Creates the CoValue if it is not stored and the header is
    /// given.
    Append {
        /// The CoValue.
        id: CoValueId,
        /// Its header. Required for a CoValue that is not stored. Ignored otherwise, because a
        /// CoValue has only one header.
        header: Option<Header>,
        /// The extensions. `after` is the expected number of stored transactions of the session.
        sessions: Vec<SessionContent>,
    },
    /// Marks a stored CoValue as deleted, and extends one of its delete sessions.
    ///
    /// The caller has checked that the deletion is valid. The CoValue is marked if the outcome of
    /// the extension is [`SessionOutcome::Applied`].
    Tombstone {
        /// The CoValue.
        id: CoValueId,
        /// The transaction of the delete session. An extension without one is a conflict.
        session: SessionContent,
    },
}

/// The result of one [`Write`].
///
/// Exhaustive on purpose: a caller must handle every result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The CoValue is stored, or was created by this write. Holds the result of each extension, in
    /// the order of the write; a tombstone has one.
    Applied(Vec<SessionOutcome>),
    /// The CoValue is not stored, and its header was not given. Nothing of the write was stored.
    NoHeader,
    /// The stored CoValue is damaged and cannot be extended. Nothing of the write was stored.
    Damaged(Damage),
}

/// The result of one extension of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionOutcome {
    /// Stored. Also the result of an extension without transactions whose `after` fits, and of a
    /// tombstone whose transactions are already stored.
    Applied,
    /// Not stored: the session has another number of transactions than expected. Another writer was
    /// faster, or the caller was wrong.
    Conflict {
        /// The number of stored transactions of the session.
        stored: u64,
    },
    /// Not stored: this is no delete session, and a deleted CoValue and a tombstone take delete
    /// sessions only.
    Deleted,
}

/// A stored CoValue, without its transactions.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredCoValue {
    /// The header.
    pub header: Header,
    /// The sessions that have transactions, sorted by id. Only delete sessions if the CoValue is
    /// deleted.
    pub sessions: Vec<StoredSession>,
    /// Whether the CoValue has a tombstone.
    pub deleted: bool,
}

/// A stored session, without its transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSession {
    /// The session.
    pub session: SessionId,
    /// The number of transactions; never 0.
    pub count: u64,
    /// The signature of the log up to the last transaction.
    pub last_signature: Signature,
    /// Bytes since the last checkpoint, counted as for [`CHUNK_LEN`](downbeat_protocol::CHUNK_LEN).
    pub since_checkpoint: u64,
}

/// The result of compacting a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// Bytes on disk before.
    pub bytes_before: u64,
    /// Bytes on disk afterwards.
    pub bytes_after: u64,
}

impl Compacted {
    /// The result for a store of these sizes.
    pub fn new(bytes_before: u64, bytes_after: u64) -> Self {
        Self { bytes_before, bytes_after }
    }
}

/// A CoValue that an upstream has not fully acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unsynced {
    /// The CoValue.
    pub id: CoValueId,
    /// The upstream.
    pub upstream: UpstreamName,
}

/// Sets whether an upstream has acknowledged all content of a CoValue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsyncedUpdate {
    /// The CoValue and the upstream.
    pub entry: Unsynced,
    /// `true` if the upstream has acknowledged everything. This removes the entry.
    pub synced: bool,
}

/// The result of one call of [`Storage::erase`](crate::Storage::erase).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Erased {
    /// Number of removed transactions.
    pub transactions: u64,
    /// Bytes of removed transaction JSON.
    pub bytes: u64,
    /// Whether there is more to remove. The caller should call again.
    pub more: bool,
}

/// How much is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// CoValues, including deleted ones.
    pub co_values: u64,
    /// CoValues with a tombstone.
    pub deleted: u64,
    /// Sessions that are not erased.
    pub sessions: u64,
    /// Transactions that are not erased.
    pub transactions: u64,
    /// Bytes of the JSON of these transactions.
    pub transaction_bytes: u64,
    /// Bytes on disk, if the backend has a disk and knows them.
    pub disk_bytes: Option<u64>,
}

impl Write {
    /// The changed CoValue.
    pub fn id(&self) -> CoValueId {
        match self {
            Self::Append { id, .. } | Self::Tombstone { id, .. } => *id,
        }
    }

    /// Approximate size in memory, in bytes, for queues that are bounded by memory.
    pub fn approximate_bytes(&self) -> usize {
        let content = |content: &SessionContent| {
            let json = usize::try_from(content.json_len()).unwrap_or(usize::MAX);
            json.saturating_add(size_of::<SessionContent>())
        };
        match self {
            Self::Append { header, sessions, .. } => {
                header.as_ref().map_or(0, |header| header.json().len())
                    + sessions.iter().map(content).sum::<usize>()
            }
            Self::Tombstone { session, .. } => content(session),
        }
    }
}

impl Outcome {
    /// Whether the write was stored in full.
    pub fn is_complete(&self) -> bool {
        match self {
            Self::Applied(sessions) => {
                sessions.iter().all(|session| *session == SessionOutcome::Applied)
            }
            Self::NoHeader | Self::Damaged(_) => false,
        }
    }
}

impl StoredCoValue {
    /// The transaction counts by session.
    pub fn counts(&self) -> SessionCounts {
        self.sessions.iter().map(|stored| (stored.session.clone(), stored.count)).collect()
    }

    /// The known state of the CoValue; `id` is its id.
    pub fn known_state(&self, id: CoValueId) -> KnownState {
        KnownState { id, header: true, sessions: self.counts() }
    }
}
