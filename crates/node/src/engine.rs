//! The engine: the task that owns the machine, feeds it events and carries out its actions.

mod actions;
mod commands;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use downbeat_driver::ContentStore;
use downbeat_protocol::{CoValueId, SessionId};
use downbeat_sync::{Event, Machine, Millis, PeerId, Refusal, UpstreamName};
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

pub(crate) use self::commands::Command;
use crate::credit::CreditPool;
use crate::gone::Gone;
use crate::link::{Kind, Link};
use crate::loader::Loader;
use crate::output::Output;
use crate::policy::ContentPolicy;
use crate::stats::{Counters, UpstreamStats};
use crate::synced::SyncWaits;
use crate::turn_slot::FinishedTurns;
use crate::usage::Usage;
use crate::verifier::Verifier;
use crate::writer::WriteQueue;

/// Events that are handled before the machine is polled.
const EVENTS_PER_ROUND: usize = 256;

/// Interval at which a draining engine checks whether all is done.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// Interval between checks for parked content that has expired.
const PARKED_CHECK: Duration = Duration::from_secs(5);

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
    /// Whether a turn is with the writing half.
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
    pub finished: Arc<FinishedTurns>,
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
    finished: Arc<FinishedTurns>,
    draining: Option<Draining>,
    synced: SyncWaits,
    counters: Arc<Counters>,
    usage: Arc<Usage>,
    policy: Arc<ContentPolicy>,
    credit: Arc<CreditPool>,
    output: Arc<Output>,
    /// Whether an action has caused an event for the machine, which has to be polled again.
    /// Also if that is the end of a turn, which is noted.
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
            finished,
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
            finished,
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
        let mut finished = Vec::new();
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
            // Before the events, whose messages then go in the next turns.
            self.finish_turns(now, &mut finished);
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
                self.finish_turns(now, &mut finished);
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
                self.turn_done(*peer);
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

    /// Tells the machine of the turns that have ended, and that nothing has waited for. The list is
    /// empty before and afterwards.
    fn finish_turns(&mut self, now: Millis, finished: &mut Vec<PeerId>) {
        self.finished.take(finished);
        for peer in finished.drain(..) {
            if self.turn_done(peer) {
                self.machine.handle(now, Event::TurnDone { peer, progress: Vec::new() });
            }
        }
    }

    /// A peer's turn has ended. Returns whether the peer is connected.
    fn turn_done(&mut self, peer: PeerId) -> bool {
        let connected = self.links.get_mut(&peer);
        connected.map(|connected| connected.busy = false).is_some()
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
}

/// The connections write no more.
impl Drop for Engine {
    fn drop(&mut self) {
        for Connected { link, .. } in self.links.values() {
            link.turn.close();
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

fn not_connected(name: UpstreamName) -> UpstreamStats {
    UpstreamStats { name, connected: false, since: SystemTime::now(), unsynced: 0 }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
