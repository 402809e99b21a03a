//! What the machine knows of a peer: what the peer has, and what it is still owed.

use std::collections::{BTreeSet, VecDeque};

use downbeat_protocol::{CoValueId, Priority, Reconcile};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::event::{Millis, UpstreamName};
use crate::subscription::Subscription;
use crate::values::Key;

/// A connected peer.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// The CoValues that the peer has loaded, sent, or been sent.
    pub subscriptions: FxHashMap<Key, Subscription>,
    /// The CoValues of which something is owed, by urgency. A CoValue stands here at most once
    /// (`Subscription::queued`), so the queue is bounded by the subscriptions.
    owed: [VecDeque<Key>; 3],
    /// Whether a turn is with the runtime.
    pub busy: bool,
    /// Whether the peer is on the machine's list of peers to draw a turn for.
    pub ready: bool,
    /// Bytes of its content that wait for dependencies.
    pub held_bytes: u64,
    /// The CoValues of that content.
    pub holds: BTreeSet<CoValueId>,
    /// The upstream's name, if the peer is one.
    pub upstream: Option<UpstreamName>,
    /// LOADs to an upstream that it has not answered, with the time at which they are given up.
    pub loads: FxHashMap<CoValueId, Millis>,
    /// LOADs to an upstream that wait until fewer are under way.
    pub loads_waiting: VecDeque<CoValueId>,
    /// Whether pages of CoValues that the upstream has not acknowledged are still to come, and
    /// where the last one ended.
    pub unsynced_pages: Pages,
    /// The same for the comparison of everything in storage.
    pub stored_pages: Pages,
    /// The reconcile batch that the upstream has not acknowledged.
    pub reconciling: Option<Reconcile>,
    /// The CoValues of a client's LOADs that storage has not answered, and of those that came behind
    /// them, in the order of the LOADs. Each stands here at most once (`Subscription::in_turn`).
    pub loading: VecDeque<CoValueId>,
    /// Reconcile batches of the peer that are not acknowledged yet.
    pub batches: Vec<Batch>,
}

/// A walk through something that is stored, page by page.
#[derive(Debug, Clone, Default)]
pub(crate) enum Pages {
    /// Not begun, or at the end.
    #[default]
    Done,
    /// A page has been asked for.
    Asked,
    /// The next page starts after this.
    Next(CoValueId),
}

/// A reconcile message under way.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Named by the peer.
    pub id: String,
    /// CoValues that have not been compared yet, or of which the peer's content is not durable yet.
    pub open: FxHashSet<CoValueId>,
}

impl Peer {
    /// Puts a CoValue into the queue, unless it is there already.
    pub(crate) fn owe(&mut self, key: Key, priority: Priority) {
        if let Some(subscription) = self.subscriptions.get_mut(&key)
            && !std::mem::replace(&mut subscription.queued, true)
        {
            self.owed[lane(priority)].push_back(key);
        }
    }

    /// Takes the most urgent CoValue out of the queue.
    pub(crate) fn next_owed(&mut self) -> Option<Key> {
        let key = self.owed.iter_mut().find_map(VecDeque::pop_front)?;
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            subscription.queued = false;
        }
        Some(key)
    }

    /// The number of CoValues in the queue.
    pub(crate) fn owed(&self) -> usize {
        self.owed.iter().map(VecDeque::len).sum()
    }

    pub(crate) fn owes_nothing(&self) -> bool {
        self.owed.iter().all(VecDeque::is_empty)
            && !self.batches.iter().any(|batch| batch.open.is_empty())
            && self.reconciling.as_ref().is_none_or(|batch| batch.values.is_empty())
    }

    /// Takes the name of a batch that can be acknowledged.
    pub(crate) fn next_reconciled(&mut self) -> Option<String> {
        let done = self.batches.iter().position(|batch| batch.open.is_empty())?;
        Some(self.batches.remove(done).id)
    }

    /// A CoValue is as the peer has it now.
    pub(crate) fn reconciled(&mut self, id: CoValueId) {
        for batch in &mut self.batches {
            batch.open.remove(&id);
        }
    }
}

fn lane(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Medium => 1,
        Priority::Low => 2,
    }
}
