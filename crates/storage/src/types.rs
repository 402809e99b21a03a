//! What goes into a store and what comes out of it.

use std::fmt;
use std::sync::Arc;

use downbeat_protocol::{
    CoValueId, Header, KnownState, SessionContent, SessionCounts, SessionId, Signature,
};

use crate::error::Damage;

/// The longest name of an upstream, in bytes, so that every backend can use it as part of a key.
pub const MAX_UPSTREAM_NAME_LEN: usize = 255;

/// One change to a store. All content in it has been verified.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Extends sessions of a CoValue, and creates it if it is not there and the header is given.
    Append {
        /// The CoValue.
        id: CoValueId,
        /// Its header. Needed the first time; ignored if one is stored, because it can only be
        /// the same.
        header: Option<Header>,
        /// The extensions. `after` is the count that the session is expected to have in the store.
        sessions: Vec<SessionContent>,
    },
    /// Marks a stored CoValue as deleted, and extends one of its delete sessions.
    ///
    /// Whether the deletion is valid has been found out by the caller. The mark is set if what
    /// became of the extension is [`SessionOutcome::Applied`].
    Tombstone {
        /// The CoValue.
        id: CoValueId,
        /// The delete session's transaction. Without one, this is a conflict.
        session: SessionContent,
    },
}

/// What became of one [`Write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The CoValue is there (or was just created), and this is what became of each extension, in
    /// the order of the write; one for a tombstone.
    Applied(Vec<SessionOutcome>),
    /// The CoValue is not stored and its header was not given. Nothing of the write was stored.
    NoHeader,
    /// What is stored of the CoValue is damaged, so that it cannot be extended. Nothing of the
    /// write was stored.
    Damaged(Damage),
}

/// What became of one extension of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionOutcome {
    /// Stored. So is an extension without transactions, which changes nothing, if its expectation
    /// is met; and a tombstone whose session has all of its transactions already.
    Applied,
    /// Not stored: the session has another number of transactions than expected, because another
    /// writer was there first, or because the caller was mistaken.
    Conflict {
        /// The number of transactions that the session has in the store.
        stored: u64,
    },
    /// Not stored: only delete sessions are taken, because the CoValue is deleted or the write is
    /// a tombstone, and this is none.
    Deleted,
}

/// What is stored of a CoValue, without its transactions.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The header.
    pub header: Header,
    /// The sessions that have transactions, sorted by id. Only delete sessions if `deleted`.
    pub sessions: Vec<StoredSession>,
    /// Whether there is a tombstone.
    pub deleted: bool,
}

/// What is stored of a session, without its transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSession {
    /// The session.
    pub session: SessionId,
    /// The number of transactions; never 0.
    pub count: u64,
    /// The signature of the log up to the last transaction.
    pub last_signature: Signature,
    /// What has gathered since the last checkpoint, in the unit of [`CHUNK_LEN`](downbeat_protocol::CHUNK_LEN).
    pub since_checkpoint: u64,
}

/// The name under which an upstream is known in the store: 1 to [`MAX_UPSTREAM_NAME_LEN`] bytes of
/// any characters but NUL. Clones share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamName(Arc<str>);

/// A text that is too long, empty, or holds a NUL, and so cannot be an [`UpstreamName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an upstream's name must have 1 to {MAX_UPSTREAM_NAME_LEN} bytes, none of them NUL")]
pub struct InvalidUpstreamName;

/// A CoValue of which an upstream has not acknowledged everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unsynced {
    /// The CoValue.
    pub id: CoValueId,
    /// The upstream.
    pub upstream: UpstreamName,
}

/// A change in whether an upstream has acknowledged everything of a CoValue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsyncedUpdate {
    /// The CoValue and the upstream.
    pub entry: Unsynced,
    /// `true` if the upstream has acknowledged everything, so that the entry can be forgotten.
    pub synced: bool,
}

/// What one call of [`Storage::erase`](crate::Storage::erase) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Erased {
    /// Transactions that were removed.
    pub transactions: u64,
    /// Bytes of transaction JSON that were removed.
    pub bytes: u64,
    /// Whether there is more to remove, so that the caller should call again.
    pub more: bool,
}

/// How much is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// CoValues, with the deleted ones.
    pub co_values: u64,
    /// CoValues that have a tombstone.
    pub deleted: u64,
    /// Sessions that are not erased.
    pub sessions: u64,
    /// Transactions that are not erased.
    pub transactions: u64,
    /// Bytes of the JSON of these transactions.
    pub transaction_bytes: u64,
    /// Bytes taken on disk, where there is one and it can be told.
    pub disk_bytes: Option<u64>,
}

impl Write {
    /// The CoValue that is changed.
    pub fn id(&self) -> CoValueId {
        match self {
            Self::Append { id, .. } | Self::Tombstone { id, .. } => *id,
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

impl Stored {
    /// The transaction counts by session.
    pub fn counts(&self) -> SessionCounts {
        self.sessions.iter().map(|stored| (stored.session.clone(), stored.count)).collect()
    }

    /// The same as a known state of the CoValue with this id.
    pub fn known_state(&self, id: CoValueId) -> KnownState {
        KnownState { id, header: true, sessions: self.counts() }
    }
}

impl UpstreamName {
    /// Takes a name over, if it is one.
    pub fn new(name: &str) -> Result<Self, InvalidUpstreamName> {
        if name.is_empty() || name.len() > MAX_UPSTREAM_NAME_LEN || name.contains('\0') {
            return Err(InvalidUpstreamName);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
