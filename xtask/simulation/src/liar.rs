//! A peer that lies.

use downbeat_protocol::Transaction;

/// A lying peer's state.
pub(crate) struct Liar {
    pub person: usize,
    /// What it has last written in its own CoValue.
    pub written: Vec<Transaction>,
}

impl Liar {
    pub(crate) fn new(person: usize) -> Self {
        Self { person, written: Vec::new() }
    }
}
