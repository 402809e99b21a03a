//! A simulated world around the machine: clients that load, write and acknowledge, a verifier that
//! accepts everything, and a storage that answers at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use downbeat_crypto::{AgentSecret, header_id, session_id};
use downbeat_protocol::{
    CoValueId, Content, Header, Known, KnownState, Limits, Message, Owner, SessionContent,
    SessionCounts, SessionId, Signature, Transaction,
};
use downbeat_sync::{
    Action, Config, Event, Item, Loaded, Machine, PeerId, PeerRole, Stored, Verified,
};
use rustc_hash::FxHashMap;

/// Events that are handled between two polls, as in the runtime.
const EVENTS_PER_ROUND: usize = 256;

/// CoValues that an active peer is subscribed to.
const SUBSCRIPTIONS: usize = 20;

/// CoValues with the same group.
const VALUES_PER_GROUP: usize = 100;

/// When all transactions are made, in milliseconds since the Unix epoch.
const MADE_AT: u64 = 1_700_000_000_000;

/// The size of the world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Clients that load, write and acknowledge.
    pub peers: usize,
    /// CoValues that those clients use.
    pub values: usize,
    /// Clients that have loaded one CoValue and do nothing more.
    pub idle_peers: usize,
    /// CoValues that the idle clients have loaded.
    pub idle_values: usize,
}

/// The machine and its peers.
pub(crate) struct Traffic {
    machine: Machine,
    stored: FxHashMap<CoValueId, Loaded>,
    values: Vec<CoValueId>,
    clients: Vec<Client>,
    by_peer: FxHashMap<PeerId, usize>,
    queue: VecDeque<Event>,
    actions: Vec<Action>,
    random: u64,
    next_peer: u64,
    transaction: Transaction,
    signature: Signature,
}

struct Client {
    peer: PeerId,
    session: SessionId,
    values: Vec<CoValueId>,
    /// The content that it has written.
    written: FxHashMap<CoValueId, u64>,
}

impl Traffic {
    pub(crate) fn new(size: Size, config: Config) -> Self {
        let secret = AgentSecret::from_secret_seed(&[1; 32]);
        let chain = downbeat_crypto::HashChain::new();
        let mut traffic = Self {
            machine: Machine::new(config),
            stored: FxHashMap::default(),
            values: Vec::new(),
            clients: Vec::new(),
            by_peer: FxHashMap::default(),
            queue: VecDeque::new(),
            actions: Vec::new(),
            random: 1,
            next_peer: 0,
            transaction: Transaction::trusting(
                r#"[{"key":"a","op":"set","value":1}]"#,
                MADE_AT,
                None,
            ),
            signature: secret.signer_secret().sign_chain(&chain),
        };
        let account = traffic.add_account(&secret, "admin");
        traffic.add_values(size.values, account, "active");
        for number in 0..size.peers {
            let account = traffic.add_account(&secret, &format!("c{number}"));
            traffic.add_client(account, number);
        }
        traffic.settle();
        traffic.add_idle(size, account);
        traffic
    }

    /// Runs `count` events. Returns their number, and the machine's processor time.
    pub(crate) fn run(&mut self, events: usize) -> (usize, Duration) {
        let mut time = Duration::ZERO;
        let done = self.rounds(events, |machine, round, actions| {
            let started = processor_time();
            handle_round(machine, round, actions);
            time += processor_time().saturating_sub(started);
        });
        (done, time)
    }

    /// The same without a clock.
    pub(crate) fn run_untimed(&mut self, events: usize) -> usize {
        self.rounds(events, handle_round)
    }

    /// The same without a clock, in a function that a profiler can select.
    pub(crate) fn run_counted(&mut self, events: usize) -> usize {
        self.rounds(events, handle_counted)
    }

    /// Runs events in rounds, each handled by `handle`. Returns their number.
    pub(crate) fn rounds(
        &mut self,
        events: usize,
        mut handle: impl FnMut(&mut Machine, Vec<Event>, &mut Vec<Action>),
    ) -> usize {
        let mut done = 0;
        while done < events {
            let round = self.next_round();
            done += round.len();
            handle(&mut self.machine, round, &mut self.actions);
            self.carry_out();
        }
        done
    }

    fn next_round(&mut self) -> Vec<Event> {
        while self.queue.len() < EVENTS_PER_ROUND {
            self.act();
        }
        self.queue.drain(..EVENTS_PER_ROUND).collect()
    }

    /// The same, with the time of each event and of each poll by itself.
    pub(crate) fn run_by_kind(&mut self, events: usize) -> Vec<(&'static str, usize, Duration)> {
        let mut kinds: Vec<(&'static str, usize, Duration)> = Vec::new();
        let mut note = |kind, time| match kinds.iter_mut().find(|(other, ..)| *other == kind) {
            Some((_, count, total)) => {
                *count += 1;
                *total += time;
            }
            None => kinds.push((kind, 1, time)),
        };
        let mut done = 0;
        while done < events {
            let round = self.next_round();
            done += round.len();
            for event in round {
                let kind = kind_of(&event);
                let started = Instant::now();
                self.machine.handle(0, event);
                note(kind, started.elapsed());
            }
            let started = Instant::now();
            self.machine.poll(&mut self.actions);
            note("poll, after 256 events", started.elapsed());
            self.carry_out();
        }
        kinds
    }

    /// One client does something.
    fn act(&mut self) {
        let number = self.below(self.clients.len());
        let value = self.below(SUBSCRIPTIONS);
        let what = self.below(100);
        let client = &mut self.clients[number];
        let id = client.values[value % client.values.len()];
        match what {
            0 => self.reconnect(number),
            1..=30 => {
                let message = Message::Load(self.state_of(id));
                self.queue.push_back(Event::Received { peer: self.clients[number].peer, message });
            }
            _ => {
                let written = client.written.entry(id).or_default();
                let run = SessionContent {
                    session: client.session.clone(),
                    after: *written,
                    transactions: vec![self.transaction.clone()],
                    last_signature: self.signature,
                };
                *written += 1;
                let content = Content {
                    id,
                    header: None,
                    priority: downbeat_protocol::Priority::Medium,
                    sessions: vec![run],
                    malformed: Vec::new(),
                    expect_content_until: None,
                };
                let message = Message::Content(content);
                self.queue.push_back(Event::Received { peer: client.peer, message });
            }
        }
    }

    fn reconnect(&mut self, number: usize) {
        let peer = self.new_peer(number);
        let before = std::mem::replace(&mut self.clients[number].peer, peer);
        self.by_peer.remove(&before);
        self.queue.push_back(Event::Disconnected(before));
        self.queue.push_back(Event::Connected { peer, role: PeerRole::Client });
        for id in self.clients[number].values.clone() {
            let message = Message::Load(self.state_of(id));
            self.queue.push_back(Event::Received { peer, message });
        }
    }

    /// The state of a client that is up to date.
    fn state_of(&self, id: CoValueId) -> KnownState {
        match self.stored.get(&id) {
            Some(stored) => KnownState { id, header: true, sessions: stored.sessions.clone() },
            None => KnownState::empty(id),
        }
    }

    /// Carries out the machine's actions, and queues the events that follow.
    fn carry_out(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Turn { peer, items } => self.write(peer, items),
                Action::Load(id) => {
                    let result = Ok(self.stored.get(&id).cloned().map(Box::new));
                    self.queue.push_back(Event::Loaded { id, result });
                }
                Action::Verify(job) => {
                    let (id, session, chain) = (job.id, job.session, job.chain);
                    let chain = Some(chain.unwrap_or_default());
                    let accepted = job.runs;
                    let verified = Verified { id, session, accepted, chain, rejection: None };
                    self.queue.push_back(Event::Verified(verified));
                }
                Action::Store(job) => {
                    let durable: SessionCounts =
                        job.sessions.iter().map(|run| (run.session.clone(), run.end())).collect();
                    if let Some(stored) = self.stored.get_mut(&job.id) {
                        for (session, count) in &durable {
                            stored.sessions.raise(session, *count);
                        }
                    }
                    let stored = Stored { id: job.id, durable, conflict: false };
                    self.queue.push_back(Event::Stored(stored));
                }
                Action::Report(report) => panic!("nothing is refused: {report:?}"),
                Action::Close { peer, reason } => panic!("{peer:?} is closed: {reason}"),
                Action::AwaitTurn(_)
                | Action::Release { .. }
                | Action::Track { .. }
                | Action::ListUnsynced { .. }
                | Action::ListStored { .. } => {}
            }
        }
    }

    /// A peer gets its turn, and acknowledges the content in it.
    fn write(&mut self, peer: PeerId, items: Vec<Item>) {
        self.queue.push_back(Event::TurnDone { peer, progress: Vec::new() });
        for item in items {
            if let Item::Content(item) = item
                && self.by_peer.contains_key(&peer)
            {
                let mut sessions = item.have;
                for (session, count) in &item.until {
                    sessions.raise(session, *count);
                }
                let state = KnownState { id: item.id, header: true, sessions };
                let known = Known { state, is_correction: false, as_dependency_of: None };
                self.queue.push_back(Event::Received { peer, message: Message::Known(known) });
            }
        }
    }

    fn settle(&mut self) {
        while !self.queue.is_empty() {
            while let Some(event) = self.queue.pop_front() {
                self.machine.handle(0, event);
            }
            self.machine.poll(&mut self.actions);
            self.carry_out();
        }
    }

    fn add_account(&mut self, secret: &AgentSecret, name: &str) -> CoValueId {
        let agent = secret.agent();
        self.add_value(
            &format!(
                r#"{{"createdAt":null,"meta":{{"type":"account"}},"ruleset":{{"initialAdmin":"{agent}","type":"group"}},"type":"comap","uniqueness":"z{name}"}}"#
            ),
            Vec::new(),
        )
    }

    /// Maps, each hundred with a group of their own.
    fn add_values(&mut self, count: usize, admin: CoValueId, name: &str) {
        let mut group = None;
        for number in 0..count {
            if number % VALUES_PER_GROUP == 0 {
                group = None;
            }
            let group = *group.get_or_insert_with(|| {
                self.add_value(
                    &format!(
                        r#"{{"meta":null,"ruleset":{{"initialAdmin":"{admin}","type":"group"}},"type":"comap","uniqueness":"z{name}g{number}"}}"#
                    ),
                    vec![admin],
                )
            });
            let id = self.add_value(
                &format!(
                    r#"{{"meta":null,"ruleset":{{"group":"{group}","type":"ownedByGroup"}},"type":"comap","uniqueness":"z{name}{number}"}}"#
                ),
                vec![group],
            );
            self.values.push(id);
        }
    }

    fn add_value(&mut self, json: &str, dependencies: Vec<CoValueId>) -> CoValueId {
        let header = Header::parse(&Bytes::from(json.to_owned()), &Limits::default())
            .expect("the header is well formed");
        let id = header_id(&header);
        let loaded =
            Loaded { header, sessions: SessionCounts::new(), dependencies, deleted: false };
        self.stored.insert(id, loaded);
        id
    }

    fn add_client(&mut self, account: CoValueId, number: usize) {
        let peer = self.new_peer(number);
        let seed = u64::try_from(number).unwrap_or_default().to_le_bytes();
        let session = session_id(&Owner::Account(account), seed);
        let values: Vec<CoValueId> = (0..SUBSCRIPTIONS)
            .map(|_| {
                let value = self.below(self.values.len());
                self.values[value]
            })
            .collect();
        self.queue.push_back(Event::Connected { peer, role: PeerRole::Client });
        for id in &values {
            let message = Message::Load(KnownState::empty(*id));
            self.queue.push_back(Event::Received { peer, message });
        }
        self.clients.push(Client { peer, session, values, written: FxHashMap::default() });
    }

    /// Clients that have loaded one CoValue each, and CoValues that have been loaded.
    fn add_idle(&mut self, size: Size, admin: CoValueId) {
        let active = self.values.len();
        self.add_values(size.idle_values, admin, "idle");
        let idle = self.values.split_off(active);
        for number in 0..size.idle_peers {
            let peer = PeerId(self.next_peer);
            self.next_peer += 1;
            self.queue.push_back(Event::Connected { peer, role: PeerRole::Client });
            if let Some(id) = idle.get(number % idle.len().max(1)) {
                let message = Message::Load(self.state_of(*id));
                self.queue.push_back(Event::Received { peer, message });
            }
            if self.queue.len() >= EVENTS_PER_ROUND {
                self.settle();
            }
        }
        self.settle();
    }

    fn new_peer(&mut self, client: usize) -> PeerId {
        let peer = PeerId(self.next_peer);
        self.next_peer += 1;
        self.by_peer.insert(peer, client);
        peer
    }

    /// A number that looks random (xorshift), the same in every run.
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.random % bound).unwrap_or_default()
    }
}

pub(crate) fn handle_round(machine: &mut Machine, round: Vec<Event>, actions: &mut Vec<Action>) {
    for event in round {
        machine.handle(0, event);
    }
    machine.poll(actions);
}

#[inline(never)]
fn handle_counted(machine: &mut Machine, round: Vec<Event>, actions: &mut Vec<Action>) {
    handle_round(machine, round, actions);
}

/// The processor time of this thread.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

fn kind_of(event: &Event) -> &'static str {
    match event {
        Event::Connected { .. } => "connected",
        Event::Disconnected(_) => "disconnected",
        Event::Received { message, .. } => match message {
            Message::Load(_) => "LOAD",
            Message::Known(_) => "KNOWN",
            Message::Content(_) => "CONTENT",
            _ => "another message",
        },
        Event::Loaded { .. } => "loaded",
        Event::Verified(_) => "verified",
        Event::Stored(_) => "stored",
        Event::TurnDone { .. } => "turn done",
        Event::Unsynced { .. } | Event::Listed { .. } | Event::Refused { .. } | Event::Tick => {
            "another event"
        }
    }
}
