//! What can be chosen when a file is opened.

use std::time::Duration;

/// What can be chosen when a file is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// When writes return.
    pub durability: Durability,
    /// Memory for pages of the file that were read or written lately, in bytes: half of it for
    /// the writer, the rest shared out among the readers.
    pub cache_bytes: u64,
}

/// When writes return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When they are on disk. Writes that come while the disk is busy share its next flush.
    #[default]
    Flushed,
    /// When all readers see them and the operating system has them. A crash of the server takes
    /// nothing with it; a crash of the machine takes what was written within this time at most,
    /// and the file is whole all the same.
    Relaxed {
        /// The longest time for which something is not on disk.
        within: Duration,
    },
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { durability: Durability::Flushed, cache_bytes: 64 << 20 }
    }
}
