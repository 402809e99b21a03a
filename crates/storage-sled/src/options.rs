//! Options of an open store.

use downbeat_storage::Durability;

/// Options for [`SledStorage::open_with`](crate::SledStorage::open_with).
///
/// ```
/// use downbeat_storage_sled::{Durability, SledOptions};
///
/// let options = SledOptions::default().with_durability(Durability::Flushed);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SledOptions {
    /// When writes return. Default: [`Durability::Flushed`].
    ///
    /// With [`Durability::Relaxed`] a write returns when it is applied in memory. A crash of the
    /// process or the machine loses writes that are not flushed yet.
    pub durability: Durability,
    /// Size of sled's cache, in bytes. Default: 128 MiB. sled needs more memory for its page table,
    /// which grows with the store, and while it writes.
    pub cache_bytes: u64,
    /// Whether opening compacts a store of more than 64 MiB if more than three quarters of it are
    /// garbage. Default: no. Takes free space for a copy, and otherwise opens the store as it is.
    pub compact_garbage: bool,
}

impl SledOptions {
    /// Sets [`Self::durability`].
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets [`Self::cache_bytes`].
    #[must_use]
    pub fn with_cache_bytes(mut self, cache_bytes: u64) -> Self {
        self.cache_bytes = cache_bytes;
        self
    }

    /// Sets [`Self::compact_garbage`].
    #[must_use]
    pub fn with_compact_garbage(mut self, compact_garbage: bool) -> Self {
        self.compact_garbage = compact_garbage;
        self
    }
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { durability: Durability::Flushed, cache_bytes: 128 << 20, compact_garbage: false }
    }
}
