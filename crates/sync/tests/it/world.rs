//! A world around one machine: peers that are played by the test, a store that keeps what it is
//! given, and a log of what was said, which reads as a conversation.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use bytes::Bytes;
use downbeat_core::dependencies;
use downbeat_crypto::{AgentSecret, HashChain, VerifyingKey, header_id, session_id};
use downbeat_protocol::{
    CoValueId, Content, Header, Known, KnownState, Limits, Message, Owner, SessionContent,
    SessionCounts, SessionId, Transaction,
};
use downbeat_sync::{
    Action, Config, ContentItem, Event, Item, Loaded, Machine, Millis, PeerId, Progress, Rejection,
    Report, StoreJob, Stored, Verified, VerifyJob,
};

/// One machine and everything that it can see.
pub(crate) struct World {
    pub machine: Machine,
    pub now: Millis,
    /// What is durable.
    pub store: BTreeMap<CoValueId, StoredValue>,
    /// Actions that the test lets happen later, while this is set.
    pub slow_storage: bool,
    pub slow_verifier: bool,
    waiting: VecDeque<Action>,
    peers: BTreeMap<PeerId, &'static str>,
    /// Peers whose connection takes nothing at the moment, with the turn that waits.
    pub stuck: BTreeMap<PeerId, Option<Vec<Item>>>,
    names: BTreeMap<String, &'static str>,
    log: Vec<String>,
    pub reports: Vec<Report>,
    /// Everything sent to each peer.
    pub inbox: BTreeMap<PeerId, Vec<Message>>,
    /// Credit given back, by peer.
    pub released: BTreeMap<PeerId, u64>,
    /// Runs that one turn may send of each content item.
    pub runs_per_turn: usize,
    next_peer: u64,
}

/// A durable CoValue.
#[derive(Clone)]
pub(crate) struct StoredValue {
    pub header: Header,
    pub sessions: BTreeMap<SessionId, Vec<SessionContent>>,
    pub deleted: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_config(Config::default())
    }

    pub(crate) fn with_config(config: Config) -> Self {
        Self {
            machine: Machine::new(config),
            now: 0,
            store: BTreeMap::new(),
            slow_storage: false,
            slow_verifier: false,
            waiting: VecDeque::new(),
            peers: BTreeMap::new(),
            stuck: BTreeMap::new(),
            names: BTreeMap::new(),
            log: Vec::new(),
            reports: Vec::new(),
            inbox: BTreeMap::new(),
            released: BTreeMap::new(),
            runs_per_turn: usize::MAX,
            next_peer: 0,
        }
    }

    /// A machine that has lost its memory, over the same store.
    pub(crate) fn restart(&mut self) {
        self.machine = Machine::new(Config::default());
        self.waiting.clear();
        self.peers.clear();
        self.stuck.clear();
    }

    pub(crate) fn connect(&mut self, name: &'static str) -> PeerId {
        let peer = PeerId(self.next_peer);
        self.next_peer += 1;
        self.peers.insert(peer, name);
        self.event(Event::Connected(peer));
        peer
    }

    pub(crate) fn disconnect(&mut self, peer: PeerId) {
        self.stuck.remove(&peer);
        self.event(Event::Disconnected(peer));
    }

    /// Gives a CoValue or session a name for the log.
    pub(crate) fn name(&mut self, id: &str, name: &'static str) {
        self.names.insert(id.to_owned(), name);
    }

    pub(crate) fn send(&mut self, peer: PeerId, message: Message) {
        let line = format!("{} → server | {}", self.peers[&peer], self.describe(&message));
        self.log.push(line);
        self.event(Event::Received { peer, message });
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Millis) {
        self.now += time;
        self.event(Event::Tick);
    }

    /// Lets everything happen that had to wait.
    pub(crate) fn catch_up(&mut self) {
        (self.slow_storage, self.slow_verifier) = (false, false);
        let waiting: Vec<Action> = self.waiting.drain(..).collect();
        for action in waiting {
            self.carry_out(action);
        }
        self.settle();
    }

    /// Lets a stuck peer read again.
    pub(crate) fn unstick(&mut self, peer: PeerId) {
        if let Some(Some(items)) = self.stuck.remove(&peer) {
            self.carry_out(Action::Turn { peer, items });
            self.settle();
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.machine.handle(self.now, event);
        self.settle();
    }

    fn settle(&mut self) {
        let mut actions = Vec::new();
        loop {
            self.machine.poll(&mut actions);
            if actions.is_empty() {
                return;
            }
            for action in actions.drain(..) {
                self.carry_out(action);
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Load(_) | Action::Store(_) if self.slow_storage => {
                self.waiting.push_back(action);
            }
            Action::Verify(_) if self.slow_verifier => self.waiting.push_back(action),
            Action::Load(id) => {
                let loaded = self.store.get(&id).map(|value| Box::new(value.loaded(id)));
                self.machine.handle(self.now, Event::Loaded { id, result: Ok(loaded) });
            }
            Action::Verify(job) => {
                let verified = self.verify(job);
                self.machine.handle(self.now, Event::Verified(verified));
            }
            Action::Store(job) => {
                let stored = self.keep(job);
                self.machine.handle(self.now, Event::Stored(stored));
            }
            Action::Turn { peer, items } => {
                if let Some(waiting) = self.stuck.get_mut(&peer) {
                    assert!(waiting.is_none(), "a peer has one turn at a time");
                    *waiting = Some(items);
                    return;
                }
                let progress =
                    items.into_iter().filter_map(|item| self.deliver(peer, item)).collect();
                self.machine.handle(self.now, Event::TurnDone { peer, progress });
            }
            Action::Release { peer, bytes } => *self.released.entry(peer).or_default() += bytes,
            Action::Report(report) => {
                let line = format!("{} ✗ {}", self.peers[&report.peer], report.rejection);
                self.log.push(self.shorten(&line));
                self.reports.push(report);
            }
        }
    }
}
