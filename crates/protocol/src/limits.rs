//! What is accepted from a peer, before anything is allocated for it.

/// Bounds on what decoding accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in one message (and so in one frame's longest line). A client's piece holds about
    /// 100 KiB, and a single transaction at most 1 MiB of changes, which base64 and JSON blow up.
    pub message_bytes: usize,
    /// Messages in one frame. A client batches about 25,000 characters, and the shortest message
    /// has about 60.
    pub messages_per_frame: usize,
    /// Transactions in one message, over all its sessions.
    pub transactions: usize,
    /// Sessions in one message.
    pub sessions: usize,
    /// CoValues in one reconcile message. A client sends 100.
    pub reconcile_values: usize,
    /// Nesting of JSON arrays and objects.
    pub depth: usize,
    /// Length of one transaction's changes, in bytes of UTF-8 (reference: 1 MiB).
    pub changes_length: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 32 << 20,
            messages_per_frame: 10_000,
            transactions: 200_000,
            sessions: 100_000,
            reconcile_values: 10_000,
            depth: 64,
            changes_length: 1 << 20,
        }
    }
}
