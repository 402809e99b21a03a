//! A lying peer, which sends invalid and misleading messages.

use downbeat_protocol::Transaction;

/// A lying peer's state.
pub(crate) struct Liar {
    pub person: usize,
    /// The latest history of its own CoValue.
    pub written: Vec<Transaction>,
}

impl Liar {
    pub(crate) fn new(person: usize) -> Self {
        Self { person, written: Vec::new() }
    }
}
