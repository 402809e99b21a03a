//! A node: the machine and the driver over a storage in memory, without threads and clocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use downbeat_driver::{ContentStore, DriverBug, WRITE_LIMITS, WriteJob, block_on};
use downbeat_protocol::{CoValueId, KnownState, SessionCounts};
use downbeat_storage::{Batcher, MemoryStorage, Storage};
use downbeat_sync::{Machine, Millis, PeerId, Refusal};

use crate::scenario::NodePlan;

/// A node.
pub(crate) struct Node {
    pub plan: NodePlan,
    pub machine: Machine,
    /// The number of starts.
    pub life: u32,
    pub up: bool,
    /// The storage, whose content is durable.
    pub storage: Arc<MemoryStorage>,
    /// An older copy of the storage.
    pub backup: Option<Arc<MemoryStorage>>,
    /// The refused content of clients, by CoValue.
    pub refused: BTreeMap<CoValueId, BTreeSet<Refusal>>,
    pub content: ContentStore,
    /// Its connections.
    pub links: BTreeMap<PeerId, Account>,
    /// Connections that have ended since the node was started.
    pub ended: BTreeMap<PeerId, Account>,
    /// Jobs for storage.
    pub jobs: Batcher<WriteJob<()>>,
    pub writing: bool,
    pub poll_due: bool,
    pub tick_at: Option<Millis>,
    /// The states that this node has acknowledged and clients have received.
    pub acknowledged: BTreeMap<CoValueId, KnownState>,
}

/// The credit of a peer: content bytes that the node has received, and bytes that it has released.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Account {
    pub taken: u64,
    pub released: u64,
    /// Whether a turn is being written.
    pub busy: bool,
    /// Whether a turn is written that the machine has not been told of, because nothing waits for
    /// it.
    pub has_finished: bool,
    /// Whether the machine waits for the end of the turn.
    pub is_awaited: bool,
}

impl Node {
    pub(crate) fn new(plan: NodePlan) -> Self {
        let storage = Arc::new(MemoryStorage::new());
        Self {
            machine: Machine::new(plan.config),
            content: content_store(&storage, &plan),
            plan,
            life: 0,
            up: false,
            storage,
            backup: None,
            refused: BTreeMap::new(),
            links: BTreeMap::new(),
            ended: BTreeMap::new(),
            jobs: Batcher::new(WRITE_LIMITS),
            writing: false,
            poll_due: false,
            tick_at: None,
            acknowledged: BTreeMap::new(),
        }
    }

    /// Starts the node, which keeps only its storage.
    pub(crate) fn start(&mut self, bug: Option<DriverBug>) {
        self.machine = Machine::new(self.plan.config);
        self.content = content_store(&self.storage, &self.plan);
        self.content.inject_bug(bug);
        self.life += 1;
        self.up = true;
        self.ended.clear();
        self.jobs = Batcher::new(WRITE_LIMITS);
        (self.writing, self.poll_due, self.tick_at) = (false, false, None);
    }

    /// The credit that a peer has left.
    pub(crate) fn credit_left(&self, account: &Account) -> i64 {
        let outstanding = account.taken.saturating_sub(account.released);
        self.plan.credit - i64::try_from(outstanding).unwrap_or(i64::MAX)
    }

    /// The durable counts of a CoValue, and whether it is deleted.
    pub(crate) fn durable(&self, id: CoValueId) -> Option<(SessionCounts, bool)> {
        let stored = block_on(self.storage.load(id)).ok()??;
        Some((stored.counts(), stored.deleted))
    }

    /// All CoValues in storage.
    pub(crate) fn stored_ids(&self) -> Vec<CoValueId> {
        block_on(self.storage.list(None, usize::MAX)).unwrap_or_default()
    }
}

fn content_store(storage: &Arc<MemoryStorage>, plan: &NodePlan) -> ContentStore {
    let storage: Arc<MemoryStorage> = Arc::clone(storage);
    ContentStore::new(storage, plan.hot_bytes)
}
