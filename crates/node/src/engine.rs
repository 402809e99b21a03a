//! The engine: the task that owns the machine, feeds it events and carries out its actions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_protocol::KnownState;
use downbeat_storage::{Storage, Unsynced, UnsyncedUpdate};
use downbeat_sync::{
    Action, Event, Machine, Millis, PeerId, Report, Role, StorageFailed, UpstreamName,
};
use rustc_hash::FxHashMap;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{error, info, warn};

use crate::connection::Link;
use crate::content::ContentStore;
use crate::loader;
use crate::stats::{Counters, Stats, add};
use crate::synced::SyncWaits;
use crate::verifier::Verifier;
use crate::writer::{Job, WriteQueue};

/// Events that are handled before what they owe is drawn.
const EVENTS_PER_ROUND: usize = 256;

/// Look-ups in storage that are under way at the same time.
const MAX_LOADS: usize = 64;

/// How often a draining engine looks whether all is done, when nothing happens.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// How long a draining engine waits for peers to be told what is stored. One that does not read
/// will find out when it comes back.
const TELL_TIME: Duration = Duration::from_secs(5);

/// Orders from the node's handle.
pub(crate) enum Command {
    /// A peer has connected; its tasks are started when this has been answered.
    Connect(PeerId, Role, Link, oneshot::Sender<()>),
    /// Answer when everything taken in is durable and acknowledged.
    Drain(oneshot::Sender<()>),
    /// Tell how the node is.
    Stats(oneshot::Sender<Stats>),
    /// Answer when the upstreams have acknowledged this much of a CoValue.
    AwaitSynced(KnownState, oneshot::Sender<()>),
}

/// A shutdown that waits until everything is done.
struct Draining {
    done: oneshot::Sender<()>,
    /// Since when everything that was taken in is stored.
    stored: Option<Instant>,
}

/// Owns the machine.
pub(crate) struct Engine {
    machine: Machine,
    started: Instant,
    links: FxHashMap<PeerId, Link>,
    content: ContentStore,
    verifier: Verifier,
    writer: WriteQueue,
    loads: Arc<Semaphore>,
    /// For tasks that report completions.
    events: mpsc::Sender<Event>,
    /// Content and look-ups of CoValues that are not done with yet.
    under_way: usize,
    draining: Option<Draining>,
    synced: SyncWaits,
    counters: Arc<Counters>,
}

impl Engine {
    pub(crate) fn new(
        machine: Machine,
        content: ContentStore,
        verifier: Verifier,
        writer: WriteQueue,
        events: mpsc::Sender<Event>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            machine,
            started: Instant::now(),
            links: FxHashMap::default(),
            content,
            verifier,
            writer,
            loads: Arc::new(Semaphore::new(MAX_LOADS)),
            events,
            under_way: 0,
            draining: None,
            synced: SyncWaits::default(),
            counters,
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
        loop {
            let deadline = self.machine.deadline();
            let wake = deadline.map(|at| self.started + Duration::from_millis(at));
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                _ = incoming.recv_many(&mut events, EVENTS_PER_ROUND) => {}
                () = sleep_until(wake) => events.push(Event::Tick),
                () = tokio::time::sleep(DRAIN_CHECK), if self.draining.is_some() => {}
            }
            let now = self.now();
            for event in events.drain(..) {
                self.completed(&event);
                let about = self.synced.awaited(&event);
                self.machine.handle(now, event);
                if let Some(id) = about {
                    self.synced.answer(id, &self.machine);
                }
            }
            self.machine.poll(&mut actions);
            for action in actions.drain(..) {
                self.carry_out(action);
            }
            if incoming.is_empty() {
                self.drain();
            }
        }
    }

    /// Tells whoever drains the node when it is drained.
    fn drain(&mut self) {
        let Some(draining) = &mut self.draining else { return };
        if self.under_way > 0 {
            return;
        }
        let stored = *draining.stored.get_or_insert_with(Instant::now);
        let is_told = self.links.values().all(|link| !link.busy);
        if (is_told || stored.elapsed() >= TELL_TIME)
            && let Some(Draining { done, .. }) = self.draining.take()
        {
            // Whoever waited may have given up.
            let _ = done.send(());
        }
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Connect(peer, role, link, done) => {
                info!(peer = %link.info.address, ?role, "connected");
                let is_upstream = matches!(role, Role::Upstream(_));
                self.links.insert(peer, Link { is_upstream, ..link });
                let now = self.now();
                self.machine.handle(now, Event::Connected { peer, role });
                let _ = done.send(());
            }
            Command::Drain(done) => self.draining = Some(Draining { done, stored: None }),
            Command::Stats(done) => {
                let _ = done.send(self.stats());
            }
            Command::AwaitSynced(state, done) => {
                let id = state.id;
                self.synced.add(state, done);
                self.synced.answer(id, &self.machine);
            }
        }
    }

    fn stats(&self) -> Stats {
        let mut stats = self.counters.snapshot();
        for link in self.links.values() {
            let peers = &mut stats.peers;
            let count = match (link.is_upstream, &link.refused) {
                (true, _) => &mut peers.upstreams,
                (false, Some(_)) => &mut peers.local,
                (false, None) => &mut peers.clients,
            };
            *count += 1;
        }
        let memory = &mut stats.memory;
        memory.warm_co_values = self.machine.warm_co_values() as u64;
        memory.held_bytes = self.machine.held_bytes();
        memory.content_bytes = self.content.hot_bytes();
        memory.unverified_jobs = self.verifier.len() as u64;
        memory.unstored_jobs = self.writer.len() as u64;
        stats
    }

    /// Keeps count of what is under way.
    fn completed(&mut self, event: &Event) {
        match event {
            Event::Loaded { .. } | Event::Verified(_) | Event::Stored(_) => {
                self.under_way = self.under_way.saturating_sub(1);
            }
            Event::TurnDone { peer, .. } => {
                if let Some(link) = self.links.get_mut(peer) {
                    link.busy = false;
                }
            }
            Event::Disconnected(peer) => {
                self.links.remove(peer);
            }
            Event::Connected { .. }
            | Event::Received { .. }
            | Event::Unsynced { .. }
            | Event::Listed { .. }
            | Event::Tick => {}
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Turn { peer, items } => {
                let Some(link) = self.links.get_mut(&peer) else { return };
                // There is always room: the machine gives a peer one turn at a time. A closed
                // channel is a connection whose end is about to be reported.
                link.busy = link.turns.try_send(items).is_ok();
            }
            Action::Load(id) => {
                self.under_way += 1;
                let counters = Arc::clone(&self.counters);
                self.look_up(move |storage| async move {
                    let result = loader::load(&*storage, id).await.map_err(|error| {
                        error!(co_value = %id, %error, "a CoValue could not be looked up");
                        add(&counters.storage.read_retries, 1);
                        StorageFailed
                    });
                    Event::Loaded { id, result }
                });
            }
            Action::Verify(job) => {
                self.under_way += 1;
                self.verifier.submit(job);
            }
            Action::Store(job) => {
                self.under_way += 1;
                self.content.add(&job);
                self.writer.push(Job::Store(job));
            }
            Action::Track { id, upstream, synced } => {
                if let Some(upstream) = storage_name(&upstream) {
                    let entry = Unsynced { id, upstream };
                    self.writer.push(Job::Track(UnsyncedUpdate { entry, synced }));
                } else {
                    error!(%upstream, "an upstream's name cannot be stored");
                }
            }
            Action::ListUnsynced { upstream, after, limit } => {
                let counters = Arc::clone(&self.counters);
                self.look_up(move |storage| async move {
                    let ids = match storage_name(&upstream) {
                        Some(name) => {
                            let ask = || loader::unsynced(&*storage, &name, after, limit);
                            loader::insist("what an upstream lacks", &counters, ask).await
                        }
                        None => Vec::new(),
                    };
                    Event::Unsynced { upstream, ids }
                });
            }
            Action::ListStored { upstream, after, limit } => {
                let counters = Arc::clone(&self.counters);
                self.look_up(move |storage| async move {
                    let ask = || loader::stored(&*storage, after, limit);
                    let values = loader::insist("what is stored", &counters, ask).await;
                    Event::Listed { upstream, values }
                });
            }
            Action::Release { peer, bytes } => {
                if let Some(link) = self.links.get(&peer) {
                    link.credit.release(bytes);
                }
            }
            Action::Report(report) => self.refuse(report),
        }
    }

    /// Asks storage in a task of its own, which reports what it finds.
    fn look_up<F>(&self, ask: impl FnOnce(Arc<dyn Storage>) -> F + Send + 'static)
    where
        F: Future<Output = Event> + Send,
    {
        let (loads, events) = (Arc::clone(&self.loads), self.events.clone());
        let storage = Arc::clone(self.content.storage());
        tokio::spawn(async move {
            let _permit = loads.acquire().await;
            tokio::select! {
                found = ask(storage) => {
                    let _ = events.send(found).await;
                }
                () = events.closed() => {}
            }
        });
    }

    /// Tells the operator what was refused, and the author if it is this program.
    fn refuse(&self, report: Report) {
        self.counters.rejected(&report.rejection);
        let link = self.links.get(&report.peer);
        let peer = link.map_or("gone", |link| link.info.address.as_str());
        warn!(
            peer,
            co_value = %report.id,
            session = report.session.as_deref(),
            reason = %report.rejection,
            "rejected content"
        );
        if let Some(refused) = link.and_then(|link| link.refused.as_ref()) {
            refused.send_replace(Some(report.rejection));
        }
    }
}

fn storage_name(name: &UpstreamName) -> Option<downbeat_storage::UpstreamName> {
    downbeat_storage::UpstreamName::new(name).ok()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
