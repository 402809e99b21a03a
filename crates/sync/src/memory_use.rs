//! What the machine's memory is used for.

/// The machine's memory in bytes, by kind. The figures are those of [`crate::cost`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// CoValues in memory, without their headers: counts, dependencies, and the tables.
    pub entries: u64,
    /// Headers of CoValues in memory.
    pub headers: u64,
    /// Subscriptions of peers.
    pub subscriptions: u64,
    /// Sessions that peers claim with other counts than this node has, and those of dropped content.
    pub claims: u64,
    /// Content that waits for dependencies, and those dependencies.
    pub held: u64,
    /// Reconcile messages that are not acknowledged.
    pub batches: u64,
    /// Hash chains.
    pub chains: u64,
}

impl MemoryUse {
    /// All of it.
    pub fn total(&self) -> u64 {
        let Self { entries, headers, subscriptions, claims, held, batches, chains } = self;
        entries + headers + subscriptions + claims + held + batches + chains
    }
}
