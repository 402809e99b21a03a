//! The engine: the task that owns the machine, feeds it events and carries out its actions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use downbeat_driver::ContentStore;
use downbeat_protocol::{CoValueId, KnownState, Message, SessionId};
use downbeat_sync::{
    Action, Event, Item, Machine, Millis, Overuse, PeerId, Refusal, Rejection, Report, StoreJob,
    UpstreamName, VerifyJob,
};
use downbeat_transport::{CloseCode, CloseReason, PeerInfo};
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};

use crate::credit::CreditPool;
use crate::gone::Gone;
use crate::link::{Kind, Link};
use crate::loader::Loader;
use crate::output::Output;
use crate::policy::ContentPolicy;
use crate::source::Source;
use crate::stats::{Counters, Stats, UpstreamStats, add};
use crate::synced::SyncWaits;
use crate::usage::Usage;
use crate::verifier::Verifier;
use crate::writer::WriteQueue;

/// Events that are handled before the machine is polled.
const EVENTS_PER_ROUND: usize = 256;

/// Interval at which a draining engine checks whether all is done.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// How long a draining engine waits until peers have read their acknowledgements: most of the time
/// for closing connections. A peer that does not read learns of them when it reconnects.
const TELL_TIME: Duration = Duration::from_secs(2);

/// Stands for the node itself, where a look-up or a store is for no peer.
const OURSELVES: PeerId = PeerId(u64::MAX);

/// Interval between checks for parked content that has expired.
const PARKED_CHECK: Duration = Duration::from_secs(5);

/// Orders from the node's handle.
pub(crate) enum Command {
    /// A peer has connected; its tasks are started when this has been answered.
    Connect(Arc<Link>, mpsc::Sender<Vec<Item>>, oneshot::Sender<()>),
    /// End the connections of the clients for which this is true, and answer with their number.
    Disconnect(Box<dyn Fn(&PeerInfo) -> bool + Send>, CloseReason, oneshot::Sender<usize>),
    /// Answer when everything taken in is durable and acknowledged, within this time, and tell
    /// since when it is durable.
    Drain(Duration, oneshot::Sender<Instant>),
    /// Tell how the node is.
    Stats(oneshot::Sender<Stats>),
    /// Tell how the upstreams are.
    Upstreams(oneshot::Sender<Vec<UpstreamStats>>),
    /// Answer when the upstreams have acknowledged this much of a CoValue.
    AwaitSynced(KnownState, oneshot::Sender<()>),
    /// Tell whether an upstream that may have a CoValue is not connected.
    IsUpstreamAway(CoValueId, oneshot::Sender<bool>),
}

/// A shutdown that waits until everything is done.
struct Draining {
    done: oneshot::Sender<Instant>,
    /// How long to wait for peers that read slowly.
    tell_time: Duration,
    /// Since when everything that was taken in is stored.
    stored: Option<Instant>,
}

/// A connected peer.
struct Connected {
    link: Arc<Link>,
    turns: mpsc::Sender<Vec<Item>>,
    /// Whether a turn is with the writing task.
    busy: bool,
}

/// The parts of a node that its engine needs.
pub(crate) struct Parts {
    pub machine: Machine,
    pub upstreams: Vec<UpstreamName>,
    pub content: ContentStore,
    pub verifier: Verifier,
    pub writer: WriteQueue,
    pub events: mpsc::Sender<Event>,
    pub counters: Arc<Counters>,
    pub usage: Arc<Usage>,
    pub policy: Arc<ContentPolicy>,
    pub credit: Arc<CreditPool>,
    pub output: Arc<Output>,
}

/// Owns the machine.
pub(crate) struct Engine {
    machine: Machine,
    started: Instant,
    links: FxHashMap<PeerId, Connected>,
    gone: Gone,
    upstreams: BTreeMap<UpstreamName, UpstreamStats>,
    content: ContentStore,
    verifier: Verifier,
    writer: WriteQueue,
    loader: Loader,
    /// Since when content waits for its verification.
    began: FxHashMap<(CoValueId, SessionId), Instant>,
    /// The same of content that is verified, until the machine has been polled: it is stored then,
    /// or not at all.
    verified: FxHashMap<(CoValueId, SessionId), Instant>,
    /// Verifications, stores and look-ups that are not finished.
    under_way: usize,
    draining: Option<Draining>,
    synced: SyncWaits,
    counters: Arc<Counters>,
    usage: Arc<Usage>,
    policy: Arc<ContentPolicy>,
    credit: Arc<CreditPool>,
    output: Arc<Output>,
    /// Whether an action has caused an event for the machine, which has to be polled again.
    fed: bool,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            machine,
            upstreams,
            content,
            verifier,
            writer,
            events,
            counters,
            usage,
            policy,
            credit,
            output,
        } = parts;
        let storage = Arc::clone(content.storage());
        let loader = Loader::new(storage, events, Arc::clone(&counters));
        Self {
            machine,
            started: Instant::now(),
            links: FxHashMap::default(),
            gone: Gone::default(),
            upstreams: upstreams
                .into_iter()
                .map(|name| (name.clone(), not_connected(name)))
                .collect(),
            content,
            verifier,
            writer,
            loader,
            began: FxHashMap::default(),
            verified: FxHashMap::default(),
            under_way: 0,
            draining: None,
            synced: SyncWaits::default(),
            counters,
            usage,
            policy,
            credit,
            output,
            fed: false,
        }
    }

    /// Runs until the handle is gone.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut incoming: mpsc::Receiver<Event>,
    ) {
        let mut events = Vec::with_capacity(EVENTS_PER_ROUND);
        let mut actions = Vec::new();
        let mut parked_check = tokio::time::interval(PARKED_CHECK);
        parked_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self.machine.deadline();
            let wake = deadline.map(|at| self.started + Duration::from_millis(at));
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                _ = parked_check.tick() => self.expire_parked(),
                _ = incoming.recv_many(&mut events, EVENTS_PER_ROUND) => {}
                () = sleep_until(wake) => events.push(Event::Tick),
                () = tokio::time::sleep(DRAIN_CHECK), if self.draining.is_some() => {}
            }
            let now = self.now();
            for event in events.drain(..) {
                self.completed(&event);
                let about = self.synced.awaited(&event);
                let sender = sender_of(&event);
                self.machine.handle(now, event);
                if let Some(Connected { link, .. }) = sender.and_then(|peer| self.links.get(&peer))
                {
                    link.places.give_back();
                }
                if let Some(id) = about {
                    self.synced.answer(id, &self.machine);
                }
            }
            loop {
                self.machine.poll(&mut actions);
                for action in actions.drain(..) {
                    self.carry_out(action);
                }
                if !std::mem::take(&mut self.fed) {
                    break;
                }
            }
            self.verified.clear();
            self.loader.look_up_wanted();
            if incoming.is_empty() {
                self.drain();
            }
        }
    }

    /// Answers the drain command when everything is done.
    fn drain(&mut self) {
        let Some(draining) = &mut self.draining else { return };
        if self.under_way > 0 {
            return;
        }
        let stored = *draining.stored.get_or_insert_with(Instant::now);
        let is_told = self.links.values().all(|connected| !connected.busy);
        if (is_told || stored.elapsed() >= draining.tell_time)
            && let Some(Draining { done, .. }) = self.draining.take()
        {
            // The handle may have given up.
            let _ = done.send(stored);
        }
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Connect(link, turns, done) => {
                self.connect(link, turns);
                let _ = done.send(());
            }
            Command::Disconnect(is_meant, reason, done) => {
                let _ = done.send(self.disconnect(&*is_meant, &reason));
            }
            Command::Drain(time, done) => {
                // So that peers have time to read acknowledgements of content that is stored late.
                let tell_time = TELL_TIME.min(time / 2);
                self.draining = Some(Draining { done, tell_time, stored: None });
            }
            Command::Stats(done) => {
                let _ = done.send(self.stats());
            }
            Command::Upstreams(done) => {
                let _ = done.send(self.upstreams.values().cloned().collect());
            }
            Command::IsUpstreamAway(id, done) => {
                let _ = done.send(self.machine.is_upstream_away(id));
            }
            Command::AwaitSynced(state, done) => {
                let id = state.id;
                self.synced.add(state, done);
                self.synced.answer(id, &self.machine);
            }
        }
    }

    fn connect(&mut self, link: Arc<Link>, turns: mpsc::Sender<Vec<Item>>) {
        let (peer, role) = (link.peer, link.kind.role());
        debug!(peer = %link.info.address, ?role, "connected");
        if let Kind::Upstream(name) = &link.kind {
            info!(upstream = %name, "connected to the upstream");
            let state = UpstreamStats { connected: true, ..not_connected(name.clone()) };
            self.upstreams.insert(name.clone(), state);
        }
        self.links.insert(peer, Connected { link, turns, busy: false });
        let now = self.now();
        self.machine.handle(now, Event::Connected { peer, role });
    }

    fn disconnected(&mut self, peer: PeerId) {
        let Some(Connected { link, .. }) = self.links.remove(&peer) else { return };
        self.policy.left(&link);
        self.gone.add(Arc::clone(&link));
        let Kind::Upstream(name) = &link.kind else { return };
        let is_same =
            |other: &Connected| matches!(&other.link.kind, Kind::Upstream(other) if other == name);
        if !self.links.values().any(is_same) {
            self.upstreams.insert(name.clone(), not_connected(name.clone()));
        }
    }

    fn disconnect(&self, is_meant: &dyn Fn(&PeerInfo) -> bool, reason: &CloseReason) -> usize {
        let clients = self.links.values().map(|connected| &connected.link);
        let clients = clients.filter(|link| matches!(link.kind, Kind::Client));
        let mut count = 0;
        for link in clients.filter(|link| is_meant(&link.info)) {
            link.close(reason.clone());
            count += 1;
        }
        count
    }

    fn stats(&self) -> Stats {
        let mut stats = self.counters.snapshot();
        let mut by_key = BTreeMap::new();
        for Connected { link, .. } in self.links.values() {
            let peers = &mut stats.peers;
            let count = match link.kind {
                Kind::Upstream(_) => &mut peers.upstreams,
                Kind::Local(_) => &mut peers.local,
                Kind::Client => &mut peers.clients,
            };
            *count += 1;
            if let Some(key) = &link.key {
                *by_key.entry(Arc::clone(key.label())).or_default() += 1;
            }
        }
        stats.upstreams = self.upstreams.values().cloned().collect();
        stats.keys = self.usage.key_stats(&by_key);
        stats.accounts = self.usage.account_stats();
        let memory = &mut stats.memory;
        memory.warm_co_values = self.machine.warm_co_values() as u64;
        memory.machine = self.machine.memory();
        memory.content_bytes = self.content.recent_bytes();
        memory.pooled_credit_bytes = self.credit.used();
        memory.output_bytes = self.output.used();
        memory.unverified_jobs = self.verifier.len() as u64;
        memory.unstored_jobs = self.writer.len() as u64;
        stats
    }

    /// Updates the state of the engine after an event, before the machine gets it.
    fn completed(&mut self, event: &Event) {
        match event {
            Event::Loaded { .. } => {
                self.under_way = self.under_way.saturating_sub(1);
                self.loader.found();
            }
            Event::Stored(_) => self.under_way = self.under_way.saturating_sub(1),
            Event::Verified(verified) => {
                self.under_way = self.under_way.saturating_sub(1);
                let content = (verified.id, verified.session.clone());
                if let Some(began) = self.began.remove(&content)
                    && !verified.accepted.is_empty()
                {
                    self.verified.insert(content, began);
                }
            }
            Event::TurnDone { peer, .. } => {
                if let Some(connected) = self.links.get_mut(peer) {
                    connected.busy = false;
                }
            }
            Event::Disconnected(peer) => self.disconnected(*peer),
            Event::Connected { .. }
            | Event::Refused { .. }
            | Event::Received { .. }
            | Event::Unsynced { .. }
            | Event::Listed { .. }
            | Event::Tick => {}
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Turn { peer, items } => {
                let Some(connected) = self.links.get_mut(&peer) else { return };
                // There is always room: the machine gives a peer one turn at a time. A closed
                // channel is a connection whose end is about to be reported.
                connected.busy = connected.turns.try_send(items).is_ok();
            }
            Action::Load(id) => {
                self.under_way += 1;
                let (source, peer) = self.asker(id);
                self.loader.want(id, source, peer);
            }
            Action::Verify(job) => self.verify(job),
            Action::Store(job) => self.store(job),
            Action::Track { id, upstream, synced } => {
                self.writer.track(id, upstream, synced);
            }
            Action::ListUnsynced { upstream, after, limit } => {
                self.loader.list_unsynced(upstream, after, limit);
            }
            Action::ListStored { upstream, after, limit } => {
                self.loader.list_stored(upstream, after, limit);
            }
            Action::Release { peer, bytes } => {
                if let Some(link) = self.link(peer) {
                    link.credit.release(bytes);
                }
            }
            Action::Close { peer, reason } => {
                let Some(Connected { link, .. }) = self.links.get(&peer) else { return };
                add(&self.counters.limits.closed_for_memory, 1);
                let code = match reason {
                    Overuse::Peer { .. } => CloseCode::PolicyViolation,
                    Overuse::AllClients { .. } => CloseCode::TryAgainLater,
                };
                warn!(peer = %link.info.address, "closing: {reason}");
                link.close(CloseReason::new(code, reason.to_string()));
            }
            Action::Report(report) => self.refuse(report),
        }
    }

    fn verify(&mut self, job: VerifyJob) {
        self.under_way += 1;
        self.began.insert((job.id, job.session.clone()), Instant::now());
        let link = self.link(job.author);
        self.verifier.submit(job, link);
    }

    fn store(&mut self, job: StoreJob) {
        self.under_way += 1;
        self.tell_policy(&job);
        let author = job.author.unwrap_or(OURSELVES);
        let link = self.link(author);
        let connected = self.links.get(&author);
        let behind = connected.and_then(|connected| self.policy.account_behind(&connected.link));
        let key = link.and_then(|link| link.key.as_deref());
        self.usage.charge(&job, key, behind);
        let source = Link::source_of(author, link);
        let run = job.sessions.first();
        let began = run.and_then(|run| self.verified.remove(&(job.id, run.session.clone())));
        self.content.add(&job);
        self.writer.store(source, author, job, began);
    }

    /// Reports verified content to the policy. Hands on the content that its sender had to wait
    /// with, if the verified content proves who the sender is.
    fn tell_policy(&mut self, job: &StoreJob) {
        let Some(peer) = job.author else { return };
        let link = self.links.get(&peer).map(|connected| &connected.link);
        if link.is_some_and(|link| !matches!(link.kind, Kind::Client)) {
            return;
        }
        // Also if the peer has left.
        self.policy.count_others(job);
        let Some(link) = link else { return };
        let now = self.now();
        for content in self.policy.verified(link, job) {
            let message = Message::Content(content);
            self.machine.handle(now, Event::Received { peer, message });
            self.fed = true;
        }
    }

    /// Refuses parked content that has expired.
    fn expire_parked(&mut self) {
        if !self.policy.has_parked() {
            return;
        }
        let now = self.now();
        for (peer, Connected { link, .. }) in &self.links {
            for id in self.policy.expire(link) {
                let refusal = Refusal::Content;
                self.machine.handle(now, Event::Refused { peer: *peer, id, refusal });
            }
        }
    }

    /// Whose share of the look-ups a CoValue is looked up with.
    fn asker(&self, id: CoValueId) -> (Source, PeerId) {
        let peer = self.machine.asker(id).unwrap_or(OURSELVES);
        (Link::source_of(peer, self.link(peer)), peer)
    }

    /// The connection of a peer, which may have left since.
    fn link(&self, peer: PeerId) -> Option<&Arc<Link>> {
        let connected = self.links.get(&peer).map(|connected| &connected.link);
        connected.or_else(|| self.gone.get(peer))
    }

    /// Counts and logs a rejection, and reports it to the author if that is this program.
    fn refuse(&self, report: Report) {
        let Some(Connected { link, .. }) = self.links.get(&report.peer) else {
            return self.counters.rejected(&PeerInfo::new("gone"), &report);
        };
        self.counters.rejected(&link.info, &report);
        match (&link.kind, report.rejection) {
            (Kind::Local(refused), rejection) => {
                refused.send_replace(Some(rejection));
            }
            (Kind::Client, Rejection::TooManySubscriptions) => {
                add(&self.counters.limits.closed_for_subscriptions, 1);
                let text = "more subscriptions than allowed";
                link.close(CloseReason::new(CloseCode::PolicyViolation, text));
            }
            (_, rejection) if is_strike(&rejection) => {
                link.strike(&self.counters.limits, rejection);
            }
            _ => {}
        }
    }
}

/// The peer whose reading half has queued an event.
fn sender_of(event: &Event) -> Option<PeerId> {
    match event {
        Event::Received { peer, .. } | Event::Refused { peer, .. } => Some(*peer),
        _ => None,
    }
}

/// Whether only a broken or a hostile client causes a rejection.
fn is_strike(rejection: &Rejection) -> bool {
    match rejection {
        Rejection::BadSignature { .. }
        | Rejection::Forked { .. }
        | Rejection::HeaderMismatch { .. }
        | Rejection::NotAnAccount
        | Rejection::InvalidSigner
        | Rejection::InvalidDelete(_) => true,
        // They cost us little, have a limit of their own, or are not the client's fault.
        Rejection::Malformed(_)
        | Rejection::Unreadable
        | Rejection::MissingDependency(_)
        | Rejection::HeldTooMuch
        | Rejection::Errored
        | Rejection::TooManySubscriptions => false,
    }
}

fn not_connected(name: UpstreamName) -> UpstreamStats {
    UpstreamStats { name, connected: false, since: SystemTime::now(), unsynced: 0 }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
