//! The connection to an upstream: the LOADs that it is asked, and the pages that it is compared
//! by.

use std::collections::VecDeque;

use downbeat_protocol::{CoValueId, Reconcile};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::event::{Millis, UpstreamName};

/// Waiting LOADs that are no longer needed, before the list is compacted, so that this is not
/// done for a few.
const MIN_STALE_LOADS: usize = 1_024;

/// What the machine keeps of an upstream while it is connected.
#[derive(Debug)]
pub(crate) struct UpstreamLink {
    name: UpstreamName,
    pub requests: Requests,
    /// The list of CoValues that the upstream has not acknowledged.
    pub unsynced_pages: Pages,
    /// The list of everything in storage, which is compared with the upstream.
    pub stored_pages: Pages,
    /// The reconcile batch that the upstream has not acknowledged. It has no CoValues once it has
    /// been sent.
    reconciling: Option<Reconcile>,
}

/// LOADs to an upstream.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// Those that it has not answered, with the time at which they are given up.
    sent: FxHashMap<CoValueId, Millis>,
    /// Those that wait until fewer are in flight.
    waiting: VecDeque<CoValueId>,
}

/// A stored list that is read page by page.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pages {
    /// Not begun, or at the end.
    Done,
    /// A page has been asked for.
    Asked,
    /// The next page starts after this CoValue.
    Next(CoValueId),
}

impl UpstreamLink {
    pub(crate) fn new(name: UpstreamName) -> Self {
        Self {
            name,
            requests: Requests::default(),
            unsynced_pages: Pages::Done,
            stored_pages: Pages::Done,
            reconciling: None,
        }
    }

    pub(crate) fn name(&self) -> &UpstreamName {
        &self.name
    }

    /// Begins a reconcile batch, which is sent with the next turn.
    pub(crate) fn begin_batch(&mut self, batch: Reconcile) {
        self.reconciling = Some(batch);
    }

    /// Whether a batch waits for the next turn.
    pub(crate) fn has_batch_to_send(&self) -> bool {
        self.reconciling.as_ref().is_some_and(|batch| !batch.values.is_empty())
    }

    /// Takes the batch that waits for the next turn. Its id is kept until it is acknowledged.
    pub(crate) fn take_batch_to_send(&mut self) -> Option<Reconcile> {
        let batch = self.reconciling.as_mut().filter(|batch| !batch.values.is_empty())?;
        Some(Reconcile { id: batch.id.clone(), values: std::mem::take(&mut batch.values) })
    }

    /// The upstream acknowledges a batch. Returns whether it is the one in progress.
    pub(crate) fn finish_batch(&mut self, id: &str) -> bool {
        self.reconciling.take_if(|batch| batch.id == id).is_some()
    }
}

impl Requests {
    /// The number of LOADs in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.sent.len()
    }

    #[cfg(feature = "faults")]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The bound on the number of waiting LOADs.
    #[cfg(feature = "faults")]
    pub(crate) fn waiting_bound(subscriptions: usize) -> usize {
        2 * subscriptions + MIN_STALE_LOADS
    }

    pub(crate) fn is_in_flight(&self, id: CoValueId) -> bool {
        self.sent.contains_key(&id)
    }

    /// A LOAD is sent, and is given up at `deadline`.
    pub(crate) fn send(&mut self, id: CoValueId, deadline: Millis) {
        self.sent.insert(id, deadline);
    }

    /// Gives the upstream more time. Returns whether a LOAD is in flight.
    pub(crate) fn extend(&mut self, id: CoValueId, deadline: Millis) -> bool {
        self.sent.get_mut(&id).map(|until| *until = deadline).is_some()
    }

    pub(crate) fn is_late(&self, id: CoValueId, now: Millis) -> bool {
        self.sent.get(&id).is_some_and(|deadline| *deadline <= now)
    }

    /// A LOAD was answered, or is given up.
    pub(crate) fn finish(&mut self, id: CoValueId) {
        self.sent.remove(&id);
    }

    /// Puts a LOAD behind those that wait. LOADs that are no longer needed are removed if they
    /// are the majority.
    pub(crate) fn defer(
        &mut self,
        id: CoValueId,
        subscriptions: usize,
        is_needed: impl Fn(CoValueId) -> bool,
    ) {
        self.waiting.push_back(id);
        if self.waiting.len() > 2 * subscriptions + MIN_STALE_LOADS {
            let mut seen = FxHashSet::default();
            self.waiting.retain(|id| is_needed(*id) && seen.insert(*id));
        }
    }

    /// Takes out the LOAD that has waited longest.
    pub(crate) fn next(&mut self) -> Option<CoValueId> {
        self.waiting.pop_front()
    }
}
