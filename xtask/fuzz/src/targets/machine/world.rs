//! The machine, its storage, and the peers of a case.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use downbeat_core::known_state;
use downbeat_crypto::sessions_hash;
use downbeat_driver::{
    ContentStore, Ed25519, LookUp, Turn, TurnLimits, WriteBatch, WriteJob, block_on, list_stored,
    list_unsynced, verify,
};
use downbeat_protocol::{
    CoValueId, Content, Known, KnownState, Limits, Message, Reconcile, SessionContent,
    SessionCounts, Signature, UpstreamName, json,
};
use downbeat_storage::{MemoryStorage, Storage};
use downbeat_sync::cost::content_credit;
use downbeat_sync::{
    Action, Config, Event, Item, Machine, Millis, PeerId, PeerRole, StorageFailed,
};

use super::script::{PEERS, Run, RunKind, Step, value_at};
use super::universe::Value;
use crate::features::Features;

/// Rounds after which a machine that still causes actions is thought never to come to rest.
const MAX_ROUNDS: usize = 10_000;

/// A CoValue that does not exist.
const UNKNOWN_ID: &str = "co_zUDSRYTQXbXDNirdvoWLHy4jnFj";

/// Bytes of durable content that stay in memory.
const CONTENT_BUDGET: u64 = 64 << 10;

/// Turns of one message, so that most content takes several.
const TURNS: TurnLimits = TurnLimits { turn_bytes: 1_000, message_bytes: 500 };

/// A peer of the case.
struct Peer {
    id: PeerId,
    is_upstream: bool,
    /// Content of the peer that the machine was given, and the part that it has given back.
    taken: u64,
    released: u64,
}

/// One machine and everything around it.
pub(super) struct World {
    machine: Machine,
    now: Millis,
    storage: Arc<MemoryStorage>,
    content: ContentStore,
    ed25519: Ed25519,
    is_broken: bool,
    /// Actions that are not completed.
    waiting: VecDeque<Action>,
    peers: BTreeMap<u8, Peer>,
    next_peer: u64,
}

impl World {
    /// The byte chooses the bounds: the lowest make the machine forget all the time.
    pub(super) fn new(choice: u8) -> Self {
        let small = choice.is_multiple_of(2);
        let config = Config {
            warm_co_values: if small { 2 } else { 1_000 },
            warm_chains: if small { 1 } else { 1_000 },
            held_bytes_per_peer: if choice & 2 == 0 { 20_000 } else { 16 << 20 },
            full_storage_reconciliation: choice & 4 != 0,
            loads_per_upstream: if choice & 8 == 0 { 2 } else { 1_000 },
            ..Config::default()
        };
        let storage = Arc::new(MemoryStorage::new());
        let mut machine = Machine::new(config);
        machine.add_upstream(upstream());
        Self {
            machine,
            now: 0,
            content: ContentStore::new(Arc::clone(&storage) as Arc<dyn Storage>, CONTENT_BUDGET),
            ed25519: Ed25519::default(),
            storage,
            is_broken: false,
            waiting: VecDeque::new(),
            peers: BTreeMap::new(),
            next_peer: 0,
        }
    }

    pub(super) fn take(&mut self, step: Step, features: &mut Features) {
        match step {
            Step::Connect(peer) => {
                self.disconnect(peer);
                self.connect(peer);
            }
            Step::Disconnect(peer) => self.disconnect(peer),
            Step::Load { peer, value, counts } => {
                self.receive(peer, Message::Load(state(value, counts)));
            }
            Step::Known { peer, value, counts, is_correction } => {
                let state = state(value, counts);
                let known = Known { state, is_correction, as_dependency_of: None };
                self.receive(peer, Message::Known(known));
            }
            Step::Content { peer, value, has_header, is_announced, runs } => {
                if let Some(value) = value_at(value) {
                    let content = content(value, has_header, is_announced, &runs);
                    self.receive(peer, Message::Content(content));
                }
            }
            Step::Reconcile { peer, values } => {
                let hash = |value: u8, is_right: bool| {
                    let counts = self.durable(id_of(value)).filter(|_| is_right);
                    sessions_hash(&counts.unwrap_or_default())
                };
                let values = values.into_iter();
                let values = values.map(|(value, right)| (id_of(value), hash(value, right)));
                let reconcile = Reconcile { id: "batch".into(), values: values.collect() };
                self.receive(peer, Message::Reconcile(reconcile));
            }
            Step::ReconcileAck { peer, batch } => {
                self.receive(peer, Message::ReconcileAck(batch.to_string()));
            }
            Step::Frame { peer, bytes } => {
                let frame = json::decode_frame(&Bytes::from(bytes), &Limits::default());
                for message in frame.map(|frame| frame.messages).unwrap_or_default() {
                    self.receive(peer, message);
                }
            }
            Step::Complete(number) => {
                if let Some(action) = self.take_waiting(number.into()) {
                    self.complete(action);
                }
            }
            Step::CompleteAll => self.settle(),
            Step::Pass(time) => {
                self.now += time;
                self.machine.handle(self.now, Event::Tick);
            }
            Step::BreakStorage(is_broken) => self.is_broken = is_broken,
        }
        self.poll(features);
    }

    /// Completes everything, and checks what must hold when all is done.
    pub(super) fn finish(&mut self, features: &mut Features) {
        self.is_broken = false;
        self.settle();
        // Held content is given up, and upstreams that do not answer are waited for no longer.
        for _ in 0..4 {
            self.now += 120_000;
            self.machine.handle(self.now, Event::Tick);
            self.settle();
        }
        assert_eq!(self.machine.overfull(), [""; 0], "a queue is longer than its bound");
        assert_eq!(self.machine.stranded(), [""; 0], "a peer waits for ever");
        features.amount("warm", self.machine.warm_co_values());
        features.amount("stored", self.storage_len());
        for peer in self.peers.values() {
            assert_eq!(peer.taken, peer.released, "{:?} lacks credit", peer.id);
        }
        for peer in 0..PEERS {
            self.disconnect(peer);
        }
        self.settle();
        self.now += 120_000;
        self.machine.handle(self.now, Event::Tick);
        self.settle();
        assert_eq!(self.machine.unfinished(), [""; 0], "something is still in progress");
        assert_eq!(self.machine.held_bytes(), 0, "content is held for ever");
    }

    /// An action in progress. What is written of a CoValue is written in its order.
    fn take_waiting(&mut self, number: usize) -> Option<Action> {
        let chosen = number.checked_rem(self.waiting.len())?;
        let written = self.waiting.get(chosen).and_then(written_id);
        let first = written
            .and_then(|id| self.waiting.iter().position(|action| written_id(action) == Some(id)));
        self.waiting.remove(first.unwrap_or(chosen))
    }

    fn storage_len(&self) -> usize {
        block_on(self.storage.list(None, usize::MAX)).map_or(0, |ids| ids.len())
    }

    fn connect(&mut self, peer: u8) {
        let id = PeerId(self.next_peer);
        self.next_peer += 1;
        let is_upstream = peer == PEERS - 1;
        self.peers.insert(peer, Peer { id, is_upstream, taken: 0, released: 0 });
        let role = if is_upstream { PeerRole::Upstream(upstream()) } else { PeerRole::Client };
        self.machine.handle(self.now, Event::Connected { peer: id, role });
    }

    fn disconnect(&mut self, peer: u8) {
        if let Some(Peer { id, .. }) = self.peers.remove(&peer) {
            self.machine.handle(self.now, Event::Disconnected(id));
        }
    }

    fn receive(&mut self, peer: u8, message: Message) {
        let Some(peer) = self.peers.get_mut(&peer) else { return };
        if let Message::Content(content) = &message {
            peer.taken += content_credit(content);
        }
        let peer = peer.id;
        self.machine.handle(self.now, Event::Received { peer, message });
    }

    /// Completes all actions, also those that follow from others.
    fn settle(&mut self) {
        let mut features = Features::default();
        for _ in 0..MAX_ROUNDS {
            self.poll(&mut features);
            if let Some(action) = self.waiting.pop_front() {
                self.complete(action);
            } else if self.machine.deadline().is_none_or(|deadline| deadline > self.now) {
                return;
            } else {
                self.machine.handle(self.now, Event::Tick);
            }
        }
        let next = self.waiting.front();
        panic!("the machine goes round in circles: {:?}, {next:?}", self.machine.unfinished());
    }

    fn poll(&mut self, features: &mut Features) {
        let mut actions = Vec::new();
        self.machine.poll(&mut actions);
        for action in actions {
            features.note(("action", std::mem::discriminant(&action)));
            match action {
                Action::Release { peer, bytes } => self.release(peer, bytes),
                Action::Report(report) => {
                    features.note(("report", std::mem::discriminant(&report.rejection)));
                }
                action => {
                    if let Action::Store(job) = &action {
                        self.content.add(job);
                    }
                    self.waiting.push_back(action);
                }
            }
        }
    }

    fn release(&mut self, peer: PeerId, bytes: u64) {
        let peer = self.peers.values_mut().find(|other| other.id == peer);
        if let Some(peer) = peer {
            peer.released += bytes;
            assert!(peer.released <= peer.taken, "{:?} gets too much credit", peer.id);
        }
    }

    fn complete(&mut self, action: Action) {
        let storage: &dyn Storage = &*self.storage;
        let event = match action {
            Action::Load(id) if self.is_broken => Event::Loaded { id, result: Err(StorageFailed) },
            Action::Load(id) => {
                let found = block_on(LookUp::new(vec![id]).next(storage));
                let (_, loaded) = found.expect("there is an answer for each CoValue");
                let loaded = loaded.expect("a storage in memory does not fail");
                Event::Loaded { id, result: Ok(loaded) }
            }
            Action::Verify(job) => {
                let verification = block_on(verify(&self.content, &self.ed25519, job));
                Event::Verified(verification.into_verified())
            }
            Action::Store(job) => return self.write(WriteJob::Store(job, ())),
            Action::Track { id, upstream, synced } => {
                return self.write(WriteJob::track(id, upstream, synced));
            }
            Action::Turn { peer, items } => return self.write_turn(peer, items),
            Action::ListUnsynced { upstream, after, limit } => {
                let ids = block_on(list_unsynced(storage, &upstream, after, limit));
                let ids = ids.expect("a storage in memory does not fail");
                Event::Unsynced { upstream, ids }
            }
            Action::ListStored { upstream, after, limit } => {
                let values = block_on(list_stored(storage, after, limit));
                let values = values.expect("a storage in memory does not fail");
                Event::Listed { upstream, values }
            }
            Action::AwaitTurn(_)
            | Action::Release { .. }
            | Action::Close { .. }
            | Action::Report(_) => return,
        };
        self.machine.handle(self.now, event);
    }

    fn write(&mut self, job: WriteJob<()>) {
        let batch = WriteBatch::new([job]);
        block_on(batch.track(&*self.storage)).expect("a storage in memory does not fail");
        let outcomes = block_on(batch.append(&self.content));
        let outcomes = outcomes.expect("a storage in memory does not fail");
        let content = self.content.clone();
        for written in batch.finish(&content, outcomes) {
            self.machine.handle(self.now, Event::Stored(written.stored));
        }
    }

    fn write_turn(&mut self, peer: PeerId, items: Vec<Item>) {
        let content = self.content.clone();
        let mut turn = Turn::new(items, TURNS);
        let is_client = |peer: &Peer| !peer.is_upstream;
        let is_client = self.peers.values().find(|other| other.id == peer).is_some_and(is_client);
        while let Some(messages) = block_on(turn.next(&content)) {
            for message in messages {
                if let Message::Known(known) = message
                    && is_client
                {
                    self.check_acknowledgement(known);
                }
            }
        }
        let progress = turn.finish().progress;
        self.machine.handle(self.now, Event::TurnDone { peer, progress });
    }

    /// Nothing is acknowledged that is not durable.
    fn check_acknowledgement(&self, known: &Known) {
        let stored = block_on(self.storage.load(known.state.id));
        let stored = stored.expect("a storage in memory does not fail");
        assert!(stored.is_some() || !known.state.header, "a header is acknowledged too early");
        if let Some(stored) = stored.filter(|stored| !stored.deleted) {
            let is_durable = known_state::is_subset(&known.state.sessions, &stored.counts());
            assert!(is_durable, "acknowledged too early");
        }
    }

    fn durable(&self, id: CoValueId) -> Option<SessionCounts> {
        Some(block_on(self.storage.load(id)).ok()??.counts())
    }
}

/// The CoValue that an action writes.
fn written_id(action: &Action) -> Option<CoValueId> {
    match action {
        Action::Store(job) => Some(job.id),
        Action::Track { id, .. } => Some(*id),
        _ => None,
    }
}

fn upstream() -> UpstreamName {
    UpstreamName::new("up").expect("a valid name")
}

fn id_of(value: u8) -> CoValueId {
    let unknown = || UNKNOWN_ID.parse().expect("a valid id");
    value_at(value).map_or_else(unknown, |value| value.id)
}

fn state(value: u8, sessions: SessionCounts) -> KnownState {
    KnownState { id: id_of(value), header: !sessions.is_empty(), sessions }
}

fn content(value: &Value, has_header: bool, is_announced: bool, runs: &[Run]) -> Content {
    let counts = || value.logs.iter().map(|log| (log.session.clone(), log.entries.len() as u64));
    Content {
        id: value.id,
        header: has_header.then(|| value.header.clone()),
        priority: value.header.priority(),
        sessions: runs.iter().filter_map(|run| session_content(value, run)).collect(),
        malformed: Vec::new(),
        expect_content_until: is_announced.then(|| counts().collect()),
    }
}

/// A run; `None` if it has no transactions.
fn session_content(value: &Value, run: &Run) -> Option<SessionContent> {
    let log = value.logs.get(usize::from(run.log))?;
    let entries = if run.kind == RunKind::Fork { &log.fork } else { &log.entries };
    let entries = entries.get(usize::from(run.range.start)..usize::from(run.range.end))?;
    let (_, signature) = entries.last()?;
    let signature = match run.kind {
        RunKind::BadSignature => Signature::from_bytes(&[7; 64]),
        RunKind::Valid | RunKind::Fork => *signature,
    };
    Some(SessionContent {
        session: log.session.clone(),
        after: run.range.start.into(),
        transactions: entries.iter().map(|(transaction, _)| transaction.clone()).collect(),
        last_signature: signature,
    })
}
