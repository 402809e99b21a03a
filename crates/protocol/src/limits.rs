//! Limits on what a peer may send, checked before anything is allocated.

/// Limits on what decoding accepts. [`Limits::default`] suits frames from peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in one message, which is a line of a JSON frame. A client sends about
    /// [`CHUNK_LEN`](crate::CHUNK_LEN), but it never splits a transaction, and clients before 0.18
    /// do not limit a transaction's size. This is the only limit on a transaction. The reference
    /// has none, so its stores hold transactions of several MB.
    pub message_bytes: usize,
    /// Bytes in the header of a CoValue. It stays in memory with the CoValue. Headers of real
    /// clients have 150 to 500 bytes; an application chooses only the uniqueness, and the name of a
    /// group.
    pub header_bytes: usize,
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
    /// Nesting of JSON arrays and objects. It bounds memory (about 60 bytes per level while a value
    /// is written canonically); decoding does not recurse. The reference reads members that it
    /// ignores to a depth of a few thousand.
    pub depth: usize,
}

impl Limits {
    /// No limits, for input from a trusted source.
    pub const fn unlimited() -> Self {
        Self {
            message_bytes: usize::MAX,
            header_bytes: usize::MAX,
            messages_per_frame: usize::MAX,
            transactions: usize::MAX,
            sessions: usize::MAX,
            reconcile_values: usize::MAX,
            depth: usize::MAX,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 32 << 20,
            header_bytes: 16 << 10,
            messages_per_frame: 10_000,
            transactions: 1_000_000,
            sessions: 500_000,
            reconcile_values: 10_000,
            depth: 10_000,
        }
    }
}
