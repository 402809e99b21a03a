//! What is accepted from a peer, before anything is allocated for it.

/// Bounds on what decoding accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in one message (and so in one frame's longest line). A client's piece holds about
    /// 100 KiB, but a transaction is never split, and clients before 0.18 do not limit its size.
    /// This is the only limit on a transaction: the reference has none, so its stores hold some of
    /// several MB.
    pub message_bytes: usize,
    /// Messages in one frame. A client batches about 25,000 characters, and the shortest message
    /// has about 60.
    pub messages_per_frame: usize,
    /// Transactions in one message, over all its sessions. A message of 32 MiB has no room for
    /// more than the default.
    pub transactions: usize,
    /// Sessions in one message. A message of 32 MiB has no room for more sessions of real clients
    /// than the default.
    pub sessions: usize,
    /// CoValues in one reconcile message. A client sends 100.
    pub reconcile_values: usize,
    /// Nesting of JSON arrays and objects. It bounds memory (some 60 bytes for each level while a
    /// value is written canonically); the stack is not used. The reference reads members that it
    /// ignores to a depth of a few thousand.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 32 << 20,
            messages_per_frame: 10_000,
            transactions: 1_000_000,
            sessions: 500_000,
            reconcile_values: 10_000,
            depth: 10_000,
        }
    }
}
