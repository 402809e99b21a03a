//! A world around one machine: peers that are played by the test, a store that keeps what it is
//! given, real signatures, and a log of what was said, which reads as a conversation.
//!
//! A line of the log is `peer → message` for what the machine gets, `peer ← message` for what it
//! sends, and `peer ✗ reason` for what it refuses. A known state reads `header a:2 b:1`, or
//! `nothing`; content reads `header a:0+2` (two transactions of session `a`, from its start).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use downbeat_core::delete::DeleteError;
use downbeat_core::{dependencies, known_state};
use downbeat_crypto::{HashChain, VerifyingKey, sessions_hash};
use downbeat_protocol::{
    CoValueId, Content, Header, Known, KnownState, Message, SessionContent, SessionCounts,
    SessionId,
};
use downbeat_sync::{
    Action, Config, ContentItem, Event, Item, Loaded, Machine, Millis, PeerId, Progress, Rejection,
    Report, Role, StorageFailed, StoreJob, Stored, UpstreamName, Verified, VerifyJob,
};

use crate::authors::{Log, Value};

/// Rounds after which a machine that still wants something done is thought never to come to rest.
/// The tests' longest chains take a few rounds for each link.
const MAX_ROUNDS: usize = 100_000;

pub(crate) type Logs = BTreeMap<SessionId, Vec<SessionContent>>;

/// One machine and everything that it can see.
#[allow(clippy::struct_excessive_bools, reason = "switches that tests set one by one")]
pub(crate) struct World {
    pub machine: Machine,
    config: Config,
    pub now: Millis,
    /// What is durable.
    pub store: BTreeMap<CoValueId, StoredValue>,
    /// What turns can read: what is durable, and what is on its way to be.
    readable: BTreeMap<CoValueId, Logs>,
    /// Completions that wait until [`World::catch_up`].
    pub slow_loads: bool,
    pub slow_stores: bool,
    pub slow_verifier: bool,
    pub slow_lists: bool,
    /// Storage answers no look-up.
    pub broken_loads: bool,
    /// The next store is told that somebody else was there first.
    pub conflict: bool,
    /// Whether whoever deletes is an admin.
    pub may_delete: bool,
    pub waiting: VecDeque<Action>,
    peers: BTreeMap<PeerId, &'static str>,
    /// Peers whose connection takes nothing at the moment, with the turn that waits.
    stuck: BTreeMap<PeerId, Option<Vec<Item>>>,
    names: BTreeMap<String, String>,
    log: Vec<String>,
    pub reports: Vec<Report>,
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
#[derive(Clone)]
pub(crate) struct StoredValue {
    pub header: Header,
    pub logs: Logs,
    pub deleted: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_config(Config::default())
    }

    pub(crate) fn with_config(config: Config) -> Self {
        Self {
            machine: Machine::new(config),
            config,
            now: 0,
            store: BTreeMap::new(),
            readable: BTreeMap::new(),
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
        self.readable = self.store.iter().map(|(id, value)| (*id, value.logs.clone())).collect();
        self.waiting.clear();
        self.stuck.clear();
        self.log.clear();
        for name in &self.upstreams {
            self.machine.add_upstream(name.clone());
        }
    }

    /// A machine that has lost its memory, over a store that has lost everything.
    pub(crate) fn lose_everything(&mut self) {
        self.store.clear();
        self.restart();
    }

    /// Makes an upstream known, without a connection to it.
    pub(crate) fn add_upstream(&mut self, name: &'static str) {
        if !self.upstreams.iter().any(|other| &**other == name) {
            self.upstreams.push(name.into());
        }
        self.machine.add_upstream(name.into());
    }

    /// A connection to an upstream.
    pub(crate) fn connect_upstream(&mut self, name: &'static str) -> PeerId {
        self.add_upstream(name);
        self.connect_as(name, Role::Upstream(name.into()))
    }

    /// The next peer to connect is a machine.
    pub(crate) fn wire_next(&mut self) {
        self.wired.insert(PeerId(self.next_peer));
    }

    /// Whether it is noted that an upstream has not acknowledged all of a CoValue.
    pub(crate) fn is_noted(&self, upstream: &str, value: &Value) -> bool {
        self.notes.contains(&(upstream.into(), value.id))
    }

    pub(crate) fn connect(&mut self, name: &'static str) -> PeerId {
        self.connect_as(name, Role::Client)
    }

    fn connect_as(&mut self, name: &'static str, role: Role) -> PeerId {
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
            self.carry_out(action);
            self.settle();
        }
    }

    /// Lets the first action happen that had to wait and of which this is true.
    pub(crate) fn catch_up_one(&mut self, wanted: impl Fn(&Action) -> bool) {
        let position = self.waiting.iter().position(wanted).expect("such an action waits");
        let slow = (self.slow_loads, self.slow_stores, self.slow_verifier);
        (self.slow_loads, self.slow_stores, self.slow_verifier) = (false, false, false);
        let action = self.waiting.remove(position).expect("it was just found");
        self.carry_out(action);
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

    /// Makes the content of a CoValue unreadable.
    pub(crate) fn hide(&mut self, value: &Value) -> Logs {
        self.readable.remove(&value.id).unwrap_or_default()
    }

    /// Makes it readable again.
    pub(crate) fn show(&mut self, value: &Value, logs: Logs) {
        self.readable.insert(value.id, logs);
    }

    pub(crate) fn durable(&self, value: &Value, log: &Log) -> u64 {
        self.store.get(&value.id).map_or(0, |stored| stored.counts().get(&log.session))
    }

    pub(crate) fn settle(&mut self) {
        let mut actions = Vec::new();
        for _ in 0..MAX_ROUNDS {
            self.machine.poll(&mut actions);
            if actions.is_empty() {
                return;
            }
            for action in actions.drain(..) {
                self.carry_out(action);
            }
        }
        panic!("the machine goes round in circles:\n  {}", self.log.join("\n  "));
    }

    fn carry_out(&mut self, action: Action) {
        if let Action::Store(job) = &action {
            self.make_readable(job);
        }
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
                    Ok(self.store.get(&id).map(|value| Box::new(value.loaded(id))))
                };
                self.machine.handle(self.now, Event::Loaded { id, result });
            }
            Action::Verify(job) => {
                let verified = self.verify(job);
                self.machine.handle(self.now, Event::Verified(verified));
            }
            Action::Store(job) => {
                let stored = self.keep(job);
                self.machine.handle(self.now, Event::Stored(stored));
            }
            Action::Turn { peer, items } => self.take_turn(peer, items),
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
                let values = self.store.iter();
                let values = values.filter(|(id, _)| after.is_none_or(|last| **id > last));
                let values = values.map(|(id, value)| (*id, sessions_hash(&value.counts())));
                let values = values.take(limit).collect();
                self.machine.handle(self.now, Event::Listed { upstream, values });
            }
            Action::Release { peer, bytes } => *self.released.entry(peer).or_default() += bytes,
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
        let progress = items.into_iter().filter_map(|item| self.deliver(peer, item)).collect();
        self.machine.handle(self.now, Event::TurnDone { peer, progress });
    }

    fn deliver(&mut self, peer: PeerId, item: Item) -> Option<Progress> {
        match item {
            Item::Message(message) => {
                if let Message::Known(known) = &message {
                    self.check_acknowledgement(known);
                }
                self.hear(peer, &message);
                None
            }
            Item::Content(item) => self.deliver_content(peer, &item),
        }
    }

    /// Nothing is acknowledged that is not durable.
    fn check_acknowledgement(&self, known: &Known) {
        let stored = self.store.get(&known.state.id);
        assert!(stored.is_some() || !known.state.header, "a header is acknowledged too early");
        if let Some(stored) = stored.filter(|stored| !stored.deleted) {
            let durable = stored.counts();
            assert!(
                known_state::is_subset(&known.state.sessions, &durable),
                "acknowledged too early"
            );
        }
    }

    fn deliver_content(&mut self, peer: PeerId, item: &ContentItem) -> Option<Progress> {
        let mut runs = VecDeque::new();
        for (session, end) in &item.until {
            let logs = self.readable.get(&item.id).and_then(|logs| logs.get(session));
            let mut at = item.have.get(session);
            for run in logs.into_iter().flatten().filter(|run| run.after < *end) {
                if run.end() > at {
                    runs.push_back(tail(run, at));
                    at = run.end();
                }
            }
        }
        let stalled = runs.is_empty() && !item.until.is_empty();
        let mut reached = item.have.clone();
        let rest = runs.split_off(runs.len().min(self.runs_per_turn));
        let complete = rest.is_empty() && !stalled;
        let pieces: Vec<Vec<SessionContent>> = if self.runs_per_turn == usize::MAX {
            vec![join(runs.into())]
        } else {
            runs.into_iter().map(|run| vec![run]).collect()
        };
        let is_sequence = pieces.len() > 1 || !complete || !item.announced.is_empty();
        let announce = is_sequence && !item.continuation;
        let mut expected = item.until.clone();
        known_state::merge_counts(&mut expected, &item.announced);
        let started = item.continuation || !stalled;
        for (number, sessions) in pieces.into_iter().filter(|_| !stalled).enumerate() {
            for run in &sessions {
                reached.raise(&run.session, run.end());
            }
            let content = Content {
                id: item.id,
                header: (number == 0 && item.with_header).then(|| item.header.clone()),
                priority: item.header.priority(),
                sessions,
                malformed: Vec::new(),
                expect_content_until: (number == 0 && announce).then(|| expected.clone()),
            };
            self.hear(peer, &Message::Content(content));
        }
        (!complete).then(|| Progress {
            id: item.id,
            epoch: item.epoch,
            header: !item.with_header || !stalled,
            started,
            reached: item
                .until
                .iter()
                .map(|(session, _)| (session.clone(), reached.get(session)))
                .collect(),
            stalled,
        })
    }

    fn hear(&mut self, peer: PeerId, message: &Message) {
        let line = format!("{} ← {}", self.peers[&peer], self.describe(message));
        self.log.push(line);
        if self.wired.contains(&peer) {
            self.outbox.push_back((peer, message.clone()));
        }
    }

    fn verify(&self, job: VerifyJob) -> Verified {
        let VerifyJob { id, session, after, chain, signer, runs, repeated, claim } = job;
        let log = |count: u64| -> Vec<&downbeat_protocol::Transaction> {
            let runs = self.readable.get(&id).and_then(|logs| logs.get(&session));
            let transactions = runs.into_iter().flatten().flat_map(|run| &run.transactions);
            transactions.take(usize::try_from(count).unwrap()).collect()
        };
        let differs = repeated.iter().find_map(|run| {
            let common = log(after).into_iter().skip(usize::try_from(run.after).unwrap());
            let at = common.zip(&run.transactions).position(|(ours, theirs)| ours != theirs)?;
            Some((run, run.after + at as u64))
        });
        let mut chain = chain.unwrap_or_else(|| {
            let mut chain = HashChain::new();
            let runs = self.readable.get(&id).and_then(|logs| logs.get(&session));
            let transactions = runs.into_iter().flatten().flat_map(|run| &run.transactions);
            for transaction in transactions.take(usize::try_from(after).unwrap()) {
                chain.append(transaction.json());
            }
            chain
        });
        let mut accepted = Vec::new();
        let mut rejection = None;
        let mut at = after;
        let key = VerifyingKey::new(signer).expect("the tests' keys are valid");
        if let Some((run, at)) = differs {
            let mut theirs = HashChain::new();
            for transaction in log(run.after).into_iter().chain(&run.transactions) {
                theirs.append(transaction.json());
            }
            let rejection = match key.verify_chain(&theirs, &run.last_signature) {
                Ok(()) => Rejection::Forked { at },
                Err(_) => Rejection::BadSignature { after: run.after },
            };
            let (chain, rejection) = (Some(chain), Some(rejection));
            return Verified { id, session, accepted: Vec::new(), chain, rejection };
        }
        for run in runs {
            assert_eq!(run.after, at, "runs follow each other");
            let mut next = chain.clone();
            run.transactions.iter().for_each(|transaction| next.append(transaction.json()));
            if key.verify_chain(&next, &run.last_signature).is_err() {
                rejection = Some(Rejection::BadSignature { after: run.after });
                break;
            }
            if claim.is_some() && !self.may_delete {
                rejection = Some(Rejection::InvalidDelete(DeleteError::NotAdmin(None)));
                break;
            }
            chain = next;
            at = run.end();
            accepted.push(run);
        }
        Verified { id, session, accepted, chain: Some(chain), rejection }
    }

    fn make_readable(&mut self, job: &StoreJob) {
        let logs = self.readable.entry(job.id).or_default();
        if job.delete {
            logs.retain(|session, _| session.is_delete());
        }
        for run in &job.sessions {
            logs.entry(run.session.clone()).or_default().push(run.clone());
        }
    }

    /// Another writer stores what follows what is there.
    pub(crate) fn store_elsewhere(&mut self, value: &Value, run: &SessionContent) {
        let stored = self.store.get_mut(&value.id).expect("it has been stored here before");
        for logs in [&mut stored.logs, self.readable.entry(value.id).or_default()] {
            logs.entry(run.session.clone()).or_default().push(run.clone());
        }
    }

    fn keep(&mut self, job: StoreJob) -> Stored {
        let conflict = std::mem::take(&mut self.conflict);
        if conflict {
            self.readable
                .insert(job.id, self.store.get(&job.id).map_or_else(Logs::new, |v| v.logs.clone()));
            return Stored { id: job.id, durable: SessionCounts::new(), conflict };
        }
        let value = match job.header {
            Some(header) => self.store.entry(job.id).or_insert(StoredValue {
                header,
                logs: Logs::new(),
                deleted: false,
            }),
            None => self.store.get_mut(&job.id).expect("the header was stored before"),
        };
        if job.delete {
            value.deleted = true;
            value.logs.retain(|session, _| session.is_delete());
        }
        let mut durable = SessionCounts::new();
        let mut conflict = false;
        for run in job.sessions {
            if value.deleted && !run.session.is_delete() {
                continue;
            }
            if value.counts().get(&run.session) == run.after {
                durable.raise(&run.session, run.end());
                value.logs.entry(run.session.clone()).or_default().push(run);
            } else {
                conflict = true;
            }
        }
        Stored { id: job.id, durable, conflict }
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

impl StoredValue {
    pub(crate) fn counts(&self) -> SessionCounts {
        self.logs
            .iter()
            .map(|(session, runs)| (session.clone(), runs.last().map_or(0, SessionContent::end)))
            .collect()
    }

    fn loaded(&self, id: CoValueId) -> Loaded {
        let content = Content {
            id,
            header: Some(self.header.clone()),
            priority: self.header.priority(),
            sessions: self.logs.values().flatten().cloned().collect(),
            malformed: Vec::new(),
            expect_content_until: None,
        };
        Loaded {
            header: self.header.clone(),
            sessions: self.counts(),
            dependencies: dependencies::of_content(id, &self.header, &content),
            deleted: self.deleted,
        }
    }
}

/// Runs of one session that follow each other become one.
fn join(runs: Vec<SessionContent>) -> Vec<SessionContent> {
    let mut joined: Vec<SessionContent> = Vec::new();
    for run in runs {
        match joined.last_mut().filter(|last| last.session == run.session) {
            Some(last) => {
                last.transactions.extend(run.transactions);
                last.last_signature = run.last_signature;
            }
            None => joined.push(run),
        }
    }
    joined
}

fn tail(run: &SessionContent, from: u64) -> SessionContent {
    let skip = usize::try_from(from.saturating_sub(run.after)).unwrap();
    SessionContent {
        session: run.session.clone(),
        after: run.after.max(from),
        transactions: run.transactions.iter().skip(skip).cloned().collect(),
        last_signature: run.last_signature,
    }
}
