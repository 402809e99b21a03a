//! Bugs that can be injected into this crate, one at a time, so that the simulation can show that
//! it finds them. Without the feature `faults` no bug can be injected.

/// A bug in how the machine's actions are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "faults"), allow(unreachable_pub, reason = "public with the feature"))]
pub enum DriverBug {
    /// Of each stored run, one transaction more is reported as durable.
    OvercountDurable,
    /// A run that conflicts with the stored log is reported as durable.
    IgnoreConflict,
    /// The delete session is stored and reported as durable, and the tombstone is not set.
    DropTombstone,
    /// A turn drops the first of several content items, on which the others may depend.
    SkipDependency,
    /// The outcomes of two writes of a batch are swapped.
    SwapOutcomes,
}

#[cfg(feature = "faults")]
impl DriverBug {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::OvercountDurable,
        Self::IgnoreConflict,
        Self::DropTombstone,
        Self::SkipDependency,
        Self::SwapOutcomes,
    ];
}

/// The bug that is injected, if any.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bugs {
    #[cfg(feature = "faults")]
    injected: Option<DriverBug>,
}

impl Bugs {
    #[cfg(feature = "faults")]
    pub(crate) fn new(injected: Option<DriverBug>) -> Self {
        Self { injected }
    }

    #[cfg(feature = "faults")]
    pub(crate) fn has(self, bug: DriverBug) -> bool {
        self.injected == Some(bug)
    }

    #[cfg(not(feature = "faults"))]
    #[allow(clippy::unused_self, reason = "with the feature it is looked up")]
    pub(crate) const fn has(self, _bug: DriverBug) -> bool {
        false
    }
}
