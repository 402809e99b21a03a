//! How far a tool is.

/// The unit in which a tool counts its progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// CoValues of a store.
    CoValues,
    /// Bytes of a file.
    Bytes,
}

/// Receives the progress of a tool, from several threads.
///
/// `()` ignores it.
pub trait ProgressObserver: Sync {
    /// The tool starts. `total` is `None` if the amount of work is unknown.
    fn start(&self, unit: Unit, total: Option<u64>);

    /// More work is done.
    fn add(&self, amount: u64);
}

impl ProgressObserver for () {
    fn start(&self, _: Unit, _: Option<u64>) {}

    fn add(&self, _: u64) {}
}
