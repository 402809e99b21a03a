//! Transactions: one signed change to a CoValue.

use bytes::Bytes;

/// Whether a transaction's changes can be read by everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    /// The changes are encrypted with a key of the owning group.
    Private,
    /// The changes are plain JSON.
    Trusting,
}

/// A transaction, as its canonical JSON with the facts that a server needs read out once.
///
/// Clones share the bytes; a transaction decoded from a frame is a slice of that frame.
#[derive(Debug, Clone)]
pub struct Transaction {
    pub(crate) json: Bytes,
    pub(crate) privacy: Privacy,
    pub(crate) made_at: f64,
    pub(crate) changes_len: u32,
}

impl Transaction {
    /// The canonical JSON, as it is hashed, stored and sent.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// Private or trusting.
    pub fn privacy(&self) -> Privacy {
        self.privacy
    }

    /// When the author says it was made, in milliseconds since the Unix epoch. Any finite number.
    pub fn made_at(&self) -> f64 {
        self.made_at
    }

    /// The length of `encryptedChanges` or `changes`, in the units in which the reference counts
    /// it for checkpoints and limits.
    pub fn changes_len(&self) -> u32 {
        self.changes_len
    }
}

/// Equal transactions have equal canonical JSON, and the other way round.
impl PartialEq for Transaction {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Eq for Transaction {}
