//! Walks through the dependencies of a CoValue, which a peer is sent before it.
//!
//! Dependencies that are not in memory are looked up first, level by level. Meanwhile the entries
//! that were met are pinned, so that a machine with little memory does not forget them again.

use downbeat_protocol::CoValueId;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::event::PeerId;

/// A walk that waits for look-ups.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// The number of CoValues that are being looked up.
    open: usize,
    /// CoValues that have been met, each pinned.
    met: FxHashSet<CoValueId>,
}

impl Walk {
    pub(crate) fn has_met(&self, id: CoValueId) -> bool {
        self.met.contains(&id)
    }

    /// Meets a CoValue, which the caller pins, and looks up if it is unknown.
    pub(crate) fn meet(&mut self, id: CoValueId, is_unknown: bool) {
        self.met.insert(id);
        self.open += usize::from(is_unknown);
    }

    /// A CoValue has been looked up. It is met again next, and unpinned by the caller.
    pub(crate) fn found(&mut self, id: CoValueId) {
        self.open -= 1;
        self.met.remove(&id);
    }

    /// Whether nothing is being looked up.
    pub(crate) fn is_done(&self) -> bool {
        self.open == 0
    }

    /// The CoValues that the walk has pinned.
    pub(crate) fn into_met(self) -> FxHashSet<CoValueId> {
        self.met
    }
}

/// The walks that wait, by the peer and the CoValue that it is sent in the end.
#[derive(Debug, Default)]
pub(crate) struct Walks {
    by_goal: FxHashMap<(PeerId, CoValueId), Walk>,
}

impl Walks {
    pub(crate) fn contains(&self, peer: PeerId, goal: CoValueId) -> bool {
        self.by_goal.contains_key(&(peer, goal))
    }

    pub(crate) fn insert(&mut self, peer: PeerId, goal: CoValueId, walk: Walk) {
        self.by_goal.insert((peer, goal), walk);
    }

    pub(crate) fn remove(&mut self, peer: PeerId, goal: CoValueId) -> Option<Walk> {
        self.by_goal.remove(&(peer, goal))
    }

    /// The peer and the CoValue of each walk.
    #[cfg(feature = "faults")]
    pub(crate) fn goals(&self) -> impl Iterator<Item = (PeerId, CoValueId)> {
        self.by_goal.keys().copied()
    }
}
