//! The rows of `downbeat_extensions`: the bounds, the signature and a checksum of each extension.
//!
//! The reference keeps signatures only at checkpoints and at the end of a log. These rows keep one
//! at the end of every extension that this crate has written, so a log can be served in small
//! pieces. Their keys are `ses` and `idx`, as in `signatureAfter`. Their checksums find damage that
//! SQLite cannot find: a changed byte within a transaction.
//!
//! The reference ignores these rows. When it erases a session, it may use the session's `ses` for
//! another session. So a row names its owner, and is ignored if that is another session. Extensions
//! that the reference appends have no rows and no checksums.

use downbeat_protocol::{CoValueId, SessionId, Signature, Transaction};

/// An extension's row that belongs to the current session.
#[derive(Debug, Clone)]
pub(crate) struct ExtensionRow {
    /// Number of transactions of the session before it.
    pub(crate) after: u64,
    pub(crate) signature: Signature,
    pub(crate) checksum: u32,
}

/// The value of `owner` in rows of this session of this CoValue.
pub(crate) fn owner(id: CoValueId, session: &SessionId) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(id.as_str().as_bytes());
    hasher.update(b"\n");
    hasher.update(session.as_str().as_bytes());
    hasher.finalize()
}

/// The checksum of an extension. It covers the canonical JSON of the transactions, not the text of
/// the rows: the reference writes JSON in another order.
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
