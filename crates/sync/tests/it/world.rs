//! A world around one machine: the driver over a storage in memory, peers that the test plays, real
//! signatures, and a log of all messages, which reads as a conversation.
//!
//! A line of the log is `peer → message` for what the machine gets, `peer ← message` for what it
//! sends, and `peer ✗ reason` for what it refuses. A known state reads `header a:2 b:1`, or
//! `nothing`; content reads `header a:0+2` (two transactions of session `a`, from its start).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use downbeat_core::delete::DeleteError;
use downbeat_core::known_state;
use downbeat_driver::{
    ContentStore, Ed25519, LookUp, Turn, TurnLimits, WriteBatch, WriteJob, block_on, list_stored,
    verify,
};
use downbeat_protocol::{
    CoValueId, Content, Known, KnownState, Message, SessionContent, SessionCounts,
};
use downbeat_storage::{MemoryStorage, Storage, StoredCoValue, Write};
use downbeat_sync::{
    Action, Config, Event, Item, Machine, Millis, Overuse, PeerId, PeerRole, Rejection, Report,
    StorageFailed, StoreJob, UpstreamName, Verified, VerifyJob,
};

use crate::authors::{Log, Value};

/// Rounds after which a machine that still wants something done is thought never to come to rest.
/// The tests' longest chains take a few rounds for each link.
const MAX_ROUNDS: usize = 100_000;

/// Bytes of durable content that stay in memory: all of it, so that it is read run by run. Storage
/// merges runs.
const CONTENT_BUDGET: u64 = u64::MAX;

/// Turns that have no limit.
const WHOLE_TURNS: TurnLimits = TurnLimits { turn_bytes: usize::MAX, message_bytes: u64::MAX };

/// Turns with one run of content, whatever its size.
const SMALL_TURNS: TurnLimits = TurnLimits { turn_bytes: 1, message_bytes: 1 };

/// One machine and everything that it can see.
#[allow(clippy::struct_excessive_bools, reason = "switches that tests set one by one")]
pub(crate) struct World {
    pub machine: Machine,
    config: Config,
    pub now: Millis,
    storage: Arc<MemoryStorage>,
    content: ContentStore,
    ed25519: Ed25519,
    /// The durable CoValues.
    pub store: BTreeMap<CoValueId, StoredValue>,
    /// Turns read no content.
    is_hidden: bool,
    /// Completions that wait until [`World::catch_up`].
    pub slow_loads: bool,
    pub slow_stores: bool,
    pub slow_verifier: bool,
    pub slow_lists: bool,
    /// Storage answers no look-up.
    pub broken_loads: bool,
    /// The next store has a conflict with another writer.
    pub conflict: bool,
    /// Whether authors may delete.
    pub may_delete: bool,
    pub waiting: VecDeque<Action>,
    peers: BTreeMap<PeerId, &'static str>,
    /// Peers whose connection takes nothing at the moment, with the turn that waits.
    stuck: BTreeMap<PeerId, Option<Vec<Item>>>,
    names: BTreeMap<String, String>,
    log: Vec<String>,
    pub reports: Vec<Report>,
    /// Peers that the machine wants to be disconnected.
    pub closed: Vec<(PeerId, Overuse)>,
    /// Credit given back, by peer.
    pub released: BTreeMap<PeerId, u64>,
    /// Runs that one turn may send of each content item.
    pub runs_per_turn: usize,
    /// Actions of each kind, since the test began.
    pub loads: usize,
    /// What is noted durably not to be acknowledged by an upstream.
    pub notes: BTreeSet<(UpstreamName, CoValueId)>,
    /// How often storage was asked for pages: of what an upstream lacks, and of what is stored.
    pub pages: [usize; 2],
    /// The upstreams that the machine knows of from its start.
    upstreams: Vec<UpstreamName>,
    /// Peers that are machines themselves, and what was sent to them.
    wired: BTreeSet<PeerId>,
    pub outbox: VecDeque<(PeerId, Message)>,
    next_peer: u64,
}

/// A durable CoValue.
pub(crate) struct StoredValue {
    pub deleted: bool,
}

/// Proof that content is hidden.
pub(crate) struct Hidden;

impl World {
    pub(crate) fn new() -> Self {
        Self::with_config(Config::default())
    }

    pub(crate) fn with_config(config: Config) -> Self {
        let storage = Arc::new(MemoryStorage::new());
        Self {
            machine: Machine::new(config),
            config,
            now: 0,
            content: content_store(&storage),
            ed25519: Ed25519::default(),
            storage,
            store: BTreeMap::new(),
            is_hidden: false,
            slow_loads: false,
            slow_stores: false,
            slow_verifier: false,
            slow_lists: false,
            broken_loads: false,
            conflict: false,
            may_delete: true,
            waiting: VecDeque::new(),
            peers: BTreeMap::new(),
            stuck: BTreeMap::new(),
            names: BTreeMap::new(),
            log: Vec::new(),
            reports: Vec::new(),
            closed: Vec::new(),
            released: BTreeMap::new(),
            runs_per_turn: usize::MAX,
            loads: 0,
            notes: BTreeSet::new(),
            pages: [0; 2],
            upstreams: Vec::new(),
            wired: BTreeSet::new(),
            outbox: VecDeque::new(),
            next_peer: 0,
        }
    }

    /// A machine that has lost its memory, over the same store.
    pub(crate) fn restart(&mut self) {
        self.machine = Machine::new(self.config);
        self.content = content_store(&self.storage);
        self.waiting.clear();
        self.stuck.clear();
        self.log.clear();
        for name in &self.upstreams {
            self.machine.add_upstream(name.clone());
        }
    }

    /// A machine that has lost its memory, over a store that has lost everything.
    pub(crate) fn lose_everything(&mut self) {
        self.storage = Arc::new(MemoryStorage::new());
        self.store.clear();
        self.restart();
    }

    /// Makes an upstream known, without a connection to it.
    pub(crate) fn add_upstream(&mut self, name: &'static str) {
        if !self.upstreams.iter().any(|other| other.as_str() == name) {
            self.upstreams.push(upstream(name));
        }
        self.machine.add_upstream(upstream(name));
    }

    /// A connection to an upstream.
    pub(crate) fn connect_upstream(&mut self, name: &'static str) -> PeerId {
        self.add_upstream(name);
        self.connect_as(name, PeerRole::Upstream(upstream(name)))
    }

    /// The next peer to connect is a machine.
    pub(crate) fn wire_next(&mut self) {
        self.wired.insert(PeerId(self.next_peer));
    }

    /// Whether it is noted that an upstream has not acknowledged all of a CoValue.
    pub(crate) fn is_noted(&self, upstream: &str, value: &Value) -> bool {
        self.notes.contains(&(self::upstream(upstream), value.id))
    }

    pub(crate) fn connect(&mut self, name: &'static str) -> PeerId {
        self.connect_as(name, PeerRole::Client)
    }

    fn connect_as(&mut self, name: &'static str, role: PeerRole) -> PeerId {
        let peer = PeerId(self.next_peer);
        self.next_peer += 1;
        self.peers.insert(peer, name);
        self.event(Event::Connected { peer, role });
        peer
    }

    pub(crate) fn disconnect(&mut self, peer: PeerId) {
        self.stuck.remove(&peer);
        self.event(Event::Disconnected(peer));
    }

    /// Names CoValues for the log.
    pub(crate) fn name(&mut self, value: &Value, name: &str) {
        self.names.insert(value.id.to_string(), name.to_owned());
    }

    /// Names a session for the log.
    pub(crate) fn name_log(&mut self, log: &Log, name: &str) {
        self.names.insert(log.session.to_string(), name.to_owned());
    }

    pub(crate) fn send(&mut self, peer: PeerId, message: Message) {
        let line = format!("{} → {}", self.peers[&peer], self.describe(&message));
        self.log.push(line);
        self.event(Event::Received { peer, message });
    }

    /// Feeds several messages before the machine is asked what to do.
    pub(crate) fn send_together(&mut self, messages: Vec<(PeerId, Message)>) {
        for (peer, message) in messages {
            let line = format!("{} → {}", self.peers[&peer], self.describe(&message));
            self.log.push(line);
            self.machine.handle(self.now, Event::Received { peer, message });
        }
        self.settle();
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Millis) {
        self.now += time;
        self.event(Event::Tick);
    }

    /// Lets everything happen that had to wait.
    pub(crate) fn catch_up(&mut self) {
        (self.slow_loads, self.slow_stores, self.slow_verifier) = (false, false, false);
        self.slow_lists = false;
        for action in std::mem::take(&mut self.waiting) {
            self.complete(action);
            self.settle();
        }
    }

    /// Completes the first waiting action for which this is true.
    pub(crate) fn catch_up_one(&mut self, wanted: impl Fn(&Action) -> bool) {
        let position = self.waiting.iter().position(wanted).expect("such an action waits");
        let slow = (self.slow_loads, self.slow_stores, self.slow_verifier);
        (self.slow_loads, self.slow_stores, self.slow_verifier) = (false, false, false);
        let action = self.waiting.remove(position).expect("it was just found");
        self.complete(action);
        (self.slow_loads, self.slow_stores, self.slow_verifier) = slow;
        self.settle();
    }

    /// Lets a peer read nothing.
    pub(crate) fn stick(&mut self, peer: PeerId) {
        self.stuck.entry(peer).or_default();
    }

    /// Lets a stuck peer read again.
    pub(crate) fn unstick(&mut self, peer: PeerId) {
        if let Some(Some(items)) = self.stuck.remove(&peer) {
            self.carry_out(Action::Turn { peer, items });
            self.settle();
        }
    }

    /// Lets a stuck peer read again, without the one turn that waits for it. Returns that turn.
    pub(crate) fn lose_turn(&mut self, peer: PeerId) -> Vec<Item> {
        self.stuck.remove(&peer).flatten().expect("a turn waits")
    }

    /// Lets a stuck peer read the one turn that waits for it.
    pub(crate) fn read_one_turn(&mut self, peer: PeerId) {
        let turn = self.stuck.remove(&peer).flatten().expect("a turn waits");
        self.carry_out(Action::Turn { peer, items: turn });
        self.stick(peer);
        self.settle();
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.machine.handle(self.now, event);
        self.settle();
    }

    /// Checks what has been said since the last time.
    #[track_caller]
    pub(crate) fn expect(&mut self, lines: &[&str]) {
        let log = std::mem::take(&mut self.log);
        let expected: Vec<&str> = lines.to_vec();
        assert!(
            log == expected,
            "said:\n  {}\nexpected:\n  {}",
            log.join("\n  "),
            expected.join("\n  ")
        );
    }

    /// Forgets what has been said.
    pub(crate) fn skip_log(&mut self) {
        self.log.clear();
    }

    /// What has been said since the last time.
    pub(crate) fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// Makes content unreadable.
    pub(crate) fn hide(&mut self, _: &Value) -> Hidden {
        self.is_hidden = true;
        Hidden
    }

    /// Makes it readable again.
    pub(crate) fn show(&mut self, _: &Value, _: Hidden) {
        self.is_hidden = false;
    }

    pub(crate) fn durable(&self, value: &Value, log: &Log) -> u64 {
        self.stored(value.id).map_or(0, |stored| stored.counts().get(&log.session))
    }

    fn stored(&self, id: CoValueId) -> Option<StoredCoValue> {
        block_on(self.storage.load(id)).expect("a storage in memory does not fail")
    }

    /// Updates the table of durable CoValues.
    fn note_stored(&mut self, id: CoValueId) {
        if let Some(StoredCoValue { deleted, .. }) = self.stored(id) {
            self.store.insert(id, StoredValue { deleted });
        }
    }

    pub(crate) fn settle(&mut self) {
        let mut actions = Vec::new();
        for _ in 0..MAX_ROUNDS {
            self.machine.poll(&mut actions);
            if actions.is_empty() {
                if self.machine.deadline().is_none_or(|deadline| deadline > self.now) {
                    return;
                }
                self.machine.handle(self.now, Event::Tick);
            }
            for action in actions.drain(..) {
                self.carry_out(action);
            }
        }
        panic!("the machine goes round in circles:\n  {}", self.log.join("\n  "));
    }

    fn carry_out(&mut self, action: Action) {
        if let Action::Store(job) = &action {
            self.content.add(job);
        }
        self.complete(action);
    }

    fn complete(&mut self, action: Action) {
        match action {
            Action::Load(_) if self.slow_loads => self.waiting.push_back(action),
            Action::Store(_) if self.slow_stores => self.waiting.push_back(action),
            Action::Verify(_) if self.slow_verifier => self.waiting.push_back(action),
            Action::ListUnsynced { .. } | Action::ListStored { .. } if self.slow_lists => {
                self.waiting.push_back(action);
            }
            Action::Load(id) => {
                self.loads += 1;
                let result = if self.broken_loads {
                    Err(StorageFailed)
                } else {
                    let found = block_on(LookUp::new(vec![id]).next(&*self.storage));
                    let (_, loaded) = found.expect("there is an answer for each CoValue");
                    Ok(loaded.expect("a storage in memory does not fail"))
                };
                self.machine.handle(self.now, Event::Loaded { id, result });
            }
            Action::Verify(job) => {
                let verified = self.verified(job);
                self.machine.handle(self.now, Event::Verified(verified));
            }
            Action::Store(job) => {
                let stored = self.keep(job);
                self.machine.handle(self.now, Event::Stored(stored));
            }
            Action::Turn { peer, items } => self.take_turn(peer, items),
            // Each turn is reported.
            Action::AwaitTurn(_) => {}
            Action::Track { id, upstream, synced } => {
                if synced {
                    self.notes.remove(&(upstream, id));
                } else {
                    self.notes.insert((upstream, id));
                }
            }
            Action::ListUnsynced { upstream, after, limit } => {
                self.pages[0] += 1;
                let notes = self.notes.iter().filter(|(name, _)| *name == upstream);
                let ids = notes.map(|(_, id)| *id).filter(|id| after.is_none_or(|last| *id > last));
                let ids = ids.take(limit).collect();
                self.machine.handle(self.now, Event::Unsynced { upstream, ids });
            }
            Action::ListStored { upstream, after, limit } => {
                self.pages[1] += 1;
                let values = block_on(list_stored(&*self.storage, after, limit));
                let values = values.expect("a storage in memory does not fail");
                self.machine.handle(self.now, Event::Listed { upstream, values });
            }
            Action::Release { peer, bytes } => *self.released.entry(peer).or_default() += bytes,
            Action::Close { peer, reason } => {
                self.log.push(format!("{} ⨯ {reason}", self.peers[&peer]));
                self.closed.push((peer, reason));
            }
            Action::Report(report) => {
                let line = format!("{} ✗ {}", self.peers[&report.peer], report.rejection);
                self.log.push(self.shorten(&line));
                self.reports.push(report);
            }
        }
    }

    fn take_turn(&mut self, peer: PeerId, items: Vec<Item>) {
        if let Some(waiting) = self.stuck.get_mut(&peer) {
            assert!(waiting.is_none(), "a peer has one turn at a time");
            *waiting = Some(items);
            return;
        }
        let nothing = content_store(&Arc::default());
        let content = if self.is_hidden { nothing } else { self.content.clone() };
        let limits = if self.runs_per_turn == usize::MAX { WHOLE_TURNS } else { SMALL_TURNS };
        let mut turn = Turn::new(items, limits);
        while let Some(messages) = block_on(turn.next(&content)) {
            for message in messages {
                self.hear(peer, message);
            }
        }
        let progress = turn.finish().progress;
        self.machine.handle(self.now, Event::TurnDone { peer, progress });
    }

    /// Nothing is acknowledged that is not durable.
    fn check_acknowledgement(&self, known: &Known) {
        let stored = self.stored(known.state.id);
        assert!(stored.is_some() || !known.state.header, "a header is acknowledged too early");
        let is_deleted = self.store.get(&known.state.id).is_some_and(|value| value.deleted);
        if let Some(stored) = stored.filter(|_| !is_deleted) {
            let durable = stored.counts();
            assert!(
                known_state::is_subset(&known.state.sessions, &durable),
                "acknowledged too early"
            );
        }
    }

    fn hear(&mut self, peer: PeerId, message: &Message) {
        if let Message::Known(known) = message {
            self.check_acknowledgement(known);
        }
        let line = format!("{} ← {}", self.peers[&peer], self.describe(message));
        self.log.push(line);
        if self.wired.contains(&peer) {
            self.outbox.push_back((peer, message.clone()));
        }
    }

    /// Verifies a job. The test decides whether deletions are allowed.
    fn verified(&self, mut job: VerifyJob) -> Verified {
        let (claim, chain) = (job.claim.take(), job.chain.clone());
        let mut verified = block_on(verify(&self.content, &self.ed25519, job)).into_verified();
        if claim.is_some() && !self.may_delete && verified.rejection.is_none() {
            verified.rejection = Some(Rejection::InvalidDelete(DeleteError::NotAdmin(None)));
            verified.accepted.clear();
            verified.chain = chain;
        }
        verified
    }

    /// Another writer stores what follows what is there.
    pub(crate) fn store_elsewhere(&mut self, value: &Value, run: &SessionContent) {
        let write = Write::Append { id: value.id, header: None, sessions: vec![run.clone()] };
        let outcomes = block_on(self.storage.append(vec![write]));
        let outcomes = outcomes.expect("a storage in memory does not fail");
        assert!(outcomes[0].is_complete(), "{outcomes:?}");
    }

    fn keep(&mut self, job: StoreJob) -> downbeat_sync::Stored {
        let id = job.id;
        if std::mem::take(&mut self.conflict) {
            self.content.stored(id, &job.sessions, true);
            return downbeat_sync::Stored { id, durable: SessionCounts::new(), conflict: true };
        }
        let batch = WriteBatch::new([WriteJob::Store(job, ())]);
        let outcomes = block_on(batch.append(&self.content));
        let outcomes = outcomes.expect("a storage in memory does not fail");
        let content = self.content.clone();
        let mut written = batch.finish(&content, outcomes);
        let written = written.next().expect("the batch has one job");
        self.note_stored(id);
        written.stored
    }

    fn describe(&self, message: &Message) -> String {
        let mut line = message.action().to_uppercase();
        match message {
            Message::Load(state) => self.describe_state(&mut line, state),
            Message::Known(known) => {
                if known.is_correction {
                    line.push_str(" CORRECTION");
                }
                self.describe_state(&mut line, &known.state);
            }
            Message::Content(content) => self.describe_content(&mut line, content),
            Message::Done(id) => write!(line, " {id}").unwrap(),
            Message::Reconcile(reconcile) => {
                write!(line, " {}", reconcile.id).unwrap();
                for (id, _) in &reconcile.values {
                    write!(line, " {id}").unwrap();
                }
            }
            Message::ReconcileAck(batch) => write!(line, " {batch}").unwrap(),
            Message::Unknown(unknown) => write!(line, " {}", unknown.id.as_str()).unwrap(),
        }
        self.shorten(&line)
    }

    fn describe_state(&self, line: &mut String, state: &KnownState) {
        write!(line, " {}", state.id).unwrap();
        if state.header {
            line.push_str(" header");
        } else if state.sessions.is_empty() {
            line.push_str(" nothing");
        }
        self.describe_counts(line, &state.sessions);
    }

    fn describe_counts(&self, line: &mut String, counts: &SessionCounts) {
        let mut counts: Vec<String> = counts
            .iter()
            .map(|(session, count)| self.shorten(&format!(" {session}:{count}")))
            .collect();
        counts.sort();
        line.push_str(&counts.concat());
    }

    fn describe_content(&self, line: &mut String, content: &Content) {
        write!(line, " {}", content.id).unwrap();
        if content.header.is_some() {
            line.push_str(" header");
        }
        let mut runs: Vec<String> = content
            .sessions
            .iter()
            .map(|run| {
                let count = run.transactions.len();
                self.shorten(&format!(" {}:{}+{count}", run.session, run.after))
            })
            .collect();
        runs.sort();
        line.push_str(&runs.concat());
        if let Some(until) = &content.expect_content_until {
            line.push_str(" until");
            self.describe_counts(line, until);
        }
    }

    /// Puts names in the place of identifiers. Sessions go first, as they contain their owners.
    fn shorten(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for pass in [true, false] {
            for (id, name) in &self.names {
                if id.contains("_session_") == pass {
                    line = line.replace(id.as_str(), name);
                }
            }
        }
        line
    }
}

/// The name of an upstream.
pub(crate) fn upstream(name: &str) -> UpstreamName {
    UpstreamName::new(name).unwrap()
}

fn content_store(storage: &Arc<MemoryStorage>) -> ContentStore {
    let storage = Arc::clone(storage);
    ContentStore::new(storage, CONTENT_BUDGET)
}
