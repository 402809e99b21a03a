//! What is kept of each extension beside the reference's tables: where it began and ended, its
//! signature, and a checksum.
//!
//! The reference keeps signatures at checkpoints and at the end of a log only. The rows of
//! `downbeat_extensions` keep them at the end of every extension that was written here, by `ses`
//! and `idx` as in `signatureAfter`, so that a log can be served in any small piece. Their
//! checksums find what SQLite cannot: a changed byte within a transaction.
//!
//! The reference knows nothing of these rows. When it erases a session, its `ses` may come to mean
//! another one, so a row says whose it is, and counts only if that is right. What the reference
//! appends has no rows and no checksums.

use downbeat_protocol::{CoValueId, SessionId, Signature, Transaction};

/// An extension's row, if it is one of the session at hand.
#[derive(Debug, Clone)]
pub(crate) struct ExtensionRow {
    /// How many transactions of the session come before it.
    pub(crate) after: u64,
    pub(crate) signature: Signature,
    pub(crate) checksum: u32,
}

/// The mark of rows that belong to this session of this CoValue.
pub(crate) fn owner(id: CoValueId, session: &SessionId) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(id.as_str().as_bytes());
    hasher.update(b"\n");
    hasher.update(session.as_str().as_bytes());
    hasher.finalize()
}

/// The checksum of an extension. It covers the canonical JSON of the transactions rather than what
/// is in the rows, because the reference writes it in another order.
pub(crate) fn checksum(after: u64, signature: &Signature, transactions: &[Transaction]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&after.to_le_bytes());
    hasher.update(signature.as_str().as_bytes());
    for transaction in transactions {
        hasher.update(&(transaction.json().len() as u64).to_le_bytes());
        hasher.update(transaction.json());
    }
    hasher.finalize()
}
