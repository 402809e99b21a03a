//! When a write counts as done.

use std::time::Duration;

/// When the writing methods of a backend return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After the data is on disk. Nothing acknowledged is lost in a crash.
    #[default]
    Flushed,
    /// As soon as readers see the data. A crash may lose acknowledged writes that are younger than
    /// `within`; the store itself stays whole. [`Storage::close`](crate::Storage::close) flushes
    /// everything.
    Relaxed {
        /// The longest time until a write is flushed to disk.
        within: Duration,
    },
}
