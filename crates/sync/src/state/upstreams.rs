//! The upstreams: servers that are asked for CoValues that are not here, and given those that
//! are.

use std::collections::BTreeMap;
use std::mem;

use downbeat_protocol::CoValueId;
use rustc_hash::FxHashMap;

use crate::event::{Millis, PeerId, UpstreamName};
use crate::state::selection::select;
use crate::state::subscription::Subscription;

/// The upstreams, connected or not.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    by_name: BTreeMap<UpstreamName, Upstream>,
}

/// What the machine keeps of an upstream across connections.
#[derive(Debug, Default)]
struct Upstream {
    /// The connection, while there is one.
    peer: Option<PeerId>,
    /// Until when the machine waits for its first connection.
    connects_until: Millis,
    /// Between connections: its part in each CoValue.
    left: FxHashMap<CoValueId, Subscription>,
    /// Reconcile batches sent so far, for their names.
    batches: u64,
    comparison: StoredComparison,
    /// Whether storage has notes that are not in memory, and that no list in progress will find.
    has_unlisted_notes: bool,
}

/// How far everything in storage has been compared with an upstream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StoredComparison {
    /// The next page starts after this CoValue, or is the first.
    From(Option<CoValueId>),
    Done,
}

/// What is kept from the last connection to an upstream.
#[derive(Debug)]
pub(crate) struct Reconnected {
    pub left: FxHashMap<CoValueId, Subscription>,
    pub comparison: StoredComparison,
}

impl Default for StoredComparison {
    fn default() -> Self {
        Self::From(None)
    }
}

impl Upstreams {
    /// Makes an upstream known before it is connected.
    pub(crate) fn add(&mut self, name: UpstreamName, connects_until: Millis) {
        let upstream = Upstream { connects_until, ..Upstream::default() };
        self.by_name.entry(name).or_insert(upstream);
    }

    /// An upstream has connected.
    pub(crate) fn connect(&mut self, name: &UpstreamName, peer: PeerId) -> Reconnected {
        let upstream = self.by_name.entry(name.clone()).or_default();
        upstream.peer = Some(peer);
        upstream.connects_until = 0;
        upstream.has_unlisted_notes = false;
        Reconnected { left: mem::take(&mut upstream.left), comparison: upstream.comparison }
    }

    /// A connection to an upstream has ended. Returns whether it was the present one.
    pub(crate) fn disconnect(&mut self, name: &UpstreamName, peer: PeerId) -> bool {
        let upstream = self.by_name.get_mut(name);
        upstream.is_some_and(|upstream| upstream.peer.take_if(|other| *other == peer).is_some())
    }

    /// Keeps its part in each CoValue until the upstream is back.
    pub(crate) fn keep_left(
        &mut self,
        name: &UpstreamName,
        left: FxHashMap<CoValueId, Subscription>,
    ) {
        if let Some(upstream) = self.by_name.get_mut(name) {
            upstream.left = left;
        }
    }

    /// The part in a CoValue of an upstream that is away.
    pub(crate) fn left(&self, name: &UpstreamName, id: CoValueId) -> Option<&Subscription> {
        self.by_name.get(name)?.left.get(&id)
    }

    pub(crate) fn forget_left(&mut self, name: &UpstreamName, id: CoValueId) {
        if let Some(upstream) = self.by_name.get_mut(name) {
            upstream.left.remove(&id);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The connection to an upstream, if there is one.
    pub(crate) fn peer(&self, name: &UpstreamName) -> Option<PeerId> {
        self.by_name.get(name)?.peer
    }

    /// The connections to upstreams, in the order of the names.
    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.by_name.values().filter_map(|upstream| upstream.peer)
    }

    /// All upstreams, in the order of their names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &UpstreamName> {
        self.by_name.keys()
    }

    /// Until when the machine waits for an upstream's first connection.
    pub(crate) fn connects_until(&self, name: &UpstreamName) -> Millis {
        self.by_name.get(name).map_or(0, |upstream| upstream.connects_until)
    }

    /// The upstreams that a CoValue is synced with, at most `count`.
    pub(crate) fn selected(&self, id: CoValueId, count: usize) -> Vec<UpstreamName> {
        select(id, self.names().cloned().collect(), count)
    }

    /// Storage has a note for an upstream that is not in memory.
    pub(crate) fn mark_unlisted(&mut self, name: &UpstreamName) {
        if let Some(upstream) = self.by_name.get_mut(name) {
            upstream.has_unlisted_notes = true;
        }
    }

    pub(crate) fn has_unlisted_notes(&self, name: &UpstreamName) -> bool {
        self.by_name.get(name).is_some_and(|upstream| upstream.has_unlisted_notes)
    }

    /// The notes for an upstream are being listed.
    pub(crate) fn clear_unlisted(&mut self, name: &UpstreamName) {
        if let Some(upstream) = self.by_name.get_mut(name) {
            upstream.has_unlisted_notes = false;
        }
    }

    /// How far everything in storage has been compared with an upstream.
    pub(crate) fn set_comparison(&mut self, name: &UpstreamName, comparison: StoredComparison) {
        if let Some(upstream) = self.by_name.get_mut(name) {
            upstream.comparison = comparison;
        }
    }

    /// The name of the next reconcile batch for an upstream.
    pub(crate) fn next_batch(&mut self, name: &UpstreamName) -> String {
        let upstream = self.by_name.entry(name.clone()).or_default();
        upstream.batches += 1;
        format!("b{}", upstream.batches)
    }
}
