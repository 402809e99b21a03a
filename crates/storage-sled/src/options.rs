//! What can be chosen when a store is opened.

use std::time::Duration;

/// What can be chosen when a store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SledOptions {
    /// When writes return.
    pub durability: Durability,
    /// Memory for what was read or written lately, in bytes. sled takes more than this for its
    /// page table, which grows with the store, and while it writes.
    pub cache_bytes: u64,
}

/// When writes return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When they are on disk. Writes that come while the disk is busy share its next flush.
    #[default]
    Flushed,
    /// When they are in memory. They are flushed within this time, and on closing; what a crash
    /// takes with it was acknowledged all the same.
    Relaxed {
        /// The longest time for which something stays in memory alone.
        within: Duration,
    },
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { durability: Durability::Flushed, cache_bytes: 128 << 20 }
    }
}
