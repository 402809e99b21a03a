//! What nodes do: the machine's events and actions, storage and verifier.

use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, KnownState, Message, SessionContent};
use downbeat_storage::{Storage, Unsynced, UnsyncedUpdate, Write};
use downbeat_sync::{
    Action, Event, Item, PeerId, Role, StorageFailed, StoreJob, UpstreamName, content_credit,
};

use super::chaos::node_name;
use super::{LookedUp, NodeStep, Step, World};
use crate::link::{End, Side};
use crate::log::describe_counts;
use crate::lookup;
use crate::node::{Account, Job, at_once, stored, writes_of};
use crate::turn;

/// How long a writer waits before it tries again, in milliseconds.
const RETRY: u64 = 500;

/// How long a deleted CoValue lies before it is erased, in milliseconds.
const MAX_ERASE_DELAY: u64 = 3_000;

/// How soon a turn is tried again whose receiver has no room, in milliseconds.
const NO_ROOM: u64 = 5;

impl World {
    pub(super) fn node_connected(&mut self, node: usize, id: PeerId, upstream: Option<usize>) {
        self.nodes[node].links.insert(id, Account::default());
        let role = upstream.map_or(Role::Client, |upstream| Role::Upstream(node_name(upstream)));
        self.tell(node, Event::Connected { peer: id, role });
    }

    pub(super) fn node_disconnected(&mut self, node: usize, id: PeerId) {
        if let Some(account) = self.nodes[node].links.remove(&id) {
            self.nodes[node].ended.insert(id, account);
            self.tell(node, Event::Disconnected(id));
        }
    }

    /// Reads as many messages as the peer has credit for.
    pub(super) fn node_reads(&mut self, node: usize, id: PeerId, side: Side) {
        loop {
            let Some(account) = self.nodes[node].links.get(&id).copied() else { return };
            let left = self.nodes[node].credit_left(&account);
            let Some(link) = self.links.get(&id) else { return };
            match link.unread[side.index()].front() {
                Some(Message::Content(_)) if left <= 0 => return,
                Some(_) => {}
                None => return,
            }
            let Some(message) = self.next_unread(id, side) else { return };
            let (refused, message) = self.refuse(node, id, side, message);
            for event in refused {
                self.tell(node, event);
            }
            let Some(message) = message else { continue };
            if let Message::Content(content) = &message
                && let Some(account) = self.nodes[node].links.get_mut(&id)
            {
                account.taken += content_credit(content);
            }
            self.tell(node, Event::Received { peer: id, message });
        }
    }

    /// Tells the machine something, and has it say what is to be done, now or soon.
    fn tell(&mut self, node: usize, event: Event) {
        let now = self.now;
        self.note_event(node, &event);
        self.nodes[node].machine.handle(now, event);
        if self.rng.percent(75) {
            self.poll(node);
        } else if !std::mem::replace(&mut self.nodes[node].poll_due, true) {
            let delay = self.rng.time(0, 3);
            self.node_later(node, delay, NodeStep::Poll);
        }
    }

    /// Writes down what the machine is told from inside the node.
    fn note_event(&mut self, node: usize, event: &Event) {
        match event {
            Event::Loaded { id, result } => {
                let found = result
                    .as_ref()
                    .map(|found| found.as_ref().map(|loaded| describe_counts(&loaded.sessions)));
                self.note(|| format!("node {node} · loaded {id}: {found:?}"));
            }
            Event::Verified(verified) => self.note(|| {
                let ends: Vec<u64> = verified.accepted.iter().map(SessionContent::end).collect();
                let (id, session, rejection) =
                    (verified.id, &verified.session, &verified.rejection);
                format!("node {node} · verified {id} {session} up to {ends:?}, {rejection:?}")
            }),
            Event::Stored(stored) => self.note(|| {
                format!("node {node} · stored {}{}", stored.id, describe_counts(&stored.durable))
            }),
            _ => {}
        }
    }

    pub(super) fn tick_all(&mut self) {
        for node in 0..self.nodes.len() {
            self.tell(node, Event::Tick);
        }
    }

    fn poll(&mut self, node: usize) {
        let mut actions = Vec::new();
        self.nodes[node].machine.poll(&mut actions);
        for action in actions {
            self.carry_out(node, action);
        }
        self.check_bounds(node);
        let Some(deadline) = self.nodes[node].machine.deadline() else { return };
        if self.nodes[node].tick_at.is_none_or(|at| at > deadline) {
            self.nodes[node].tick_at = Some(deadline);
            let delay = deadline.saturating_sub(self.now);
            self.node_later(node, delay, NodeStep::Tick);
        }
    }

    fn node_later(&mut self, node: usize, delay: u64, what: NodeStep) {
        let life = self.nodes[node].life;
        self.schedule(delay, Step::Node { node, life, what });
    }

    fn storage_time(&mut self) -> u64 {
        self.rng.time(0, self.plan.storage_delay)
    }

    fn carry_out(&mut self, node: usize, action: Action) {
        match action {
            Action::Turn { peer, items } => {
                self.check_turn(node, peer, &items);
                let delay = self.rng.time(0, 2);
                self.node_later(node, delay, NodeStep::Turn { peer, items });
            }
            Action::Load(id) => {
                let delay = self.storage_time();
                self.node_later(node, delay, NodeStep::LookUp(id));
            }
            Action::Verify(job) => {
                let delay = self.rng.time(0, self.plan.verify_delay);
                self.node_later(node, delay, NodeStep::Verify(job));
            }
            Action::Store(job) => {
                self.check_store(node, &job);
                self.nodes[node].content.add(&job);
                self.nodes[node].jobs.push_back(Job::Store(job));
                self.start_writing(node);
            }
            Action::Track { id, upstream, synced } => {
                self.note(|| format!("node {node} tracks {id} for {upstream}: synced {synced}"));
                let entry = Unsynced { id, upstream: storage_name(&upstream) };
                self.nodes[node].jobs.push_back(Job::Track(UnsyncedUpdate { entry, synced }));
                self.start_writing(node);
            }
            Action::ListUnsynced { upstream, after, limit } => {
                let delay = self.storage_time();
                self.node_later(node, delay, NodeStep::ListUnsynced { upstream, after, limit });
            }
            Action::ListStored { upstream, after, limit } => {
                let delay = self.storage_time();
                self.node_later(node, delay, NodeStep::ListStored { upstream, after, limit });
            }
            Action::Release { peer, bytes } => self.release(node, peer, bytes),
            Action::Report(report) => self.check_report(node, &report),
        }
    }

    fn release(&mut self, node: usize, peer: PeerId, bytes: u64) {
        let state = &mut self.nodes[node];
        let Some(account) = state.links.get_mut(&peer).or_else(|| state.ended.get_mut(&peer))
        else {
            return self.fail(|| format!("node {node} releases to {peer:?}, which never was"));
        };
        account.released += bytes;
        if account.released > account.taken {
            return self.fail(|| format!("node {node} releases more than {peer:?} has sent"));
        }
        if let Some(side) = self.links.get(&peer).map(|link| link.side_of(End::Node(node))) {
            self.schedule(0, Step::Read { link: peer, side });
        }
    }

    pub(super) fn node_step(&mut self, node: usize, what: NodeStep) {
        match what {
            NodeStep::Poll => {
                self.nodes[node].poll_due = false;
                self.poll(node);
            }
            NodeStep::Tick => {
                self.nodes[node].tick_at = None;
                self.tell(node, Event::Tick);
            }
            NodeStep::LookUp(id) => {
                let result = self.look_up(node, id);
                let delay = self.storage_time();
                self.node_later(node, delay, NodeStep::Tell(Event::Loaded { id, result }));
            }
            NodeStep::Verify(job) => {
                let verified = self.verifier.verify(&self.nodes[node].content, job);
                self.tell(node, Event::Verified(verified));
            }
            NodeStep::Turn { peer, items } => self.write_turn(node, peer, items),
            NodeStep::ListUnsynced { .. } | NodeStep::ListStored { .. } if self.storage_fails() => {
                self.node_later(node, RETRY, what);
            }
            NodeStep::Erase => self.erase(node),
            NodeStep::ListUnsynced { upstream, after, limit } => {
                let name = storage_name(&upstream);
                let storage = &*self.nodes[node].storage;
                let ids = lookup::unsynced(storage, &name, after, limit);
                self.tell(node, Event::Unsynced { upstream, ids });
            }
            NodeStep::ListStored { upstream, after, limit } => {
                let storage = &*self.nodes[node].storage;
                let values = lookup::list(storage, after, limit);
                self.tell(node, Event::Listed { upstream, values });
            }
            NodeStep::Take => self.take_jobs(node),
            NodeStep::Append { stores } => self.append(node, stores),
            NodeStep::Appended { stores, outcomes } => {
                let mut outcomes = outcomes.into_iter();
                for job in stores {
                    let count = writes_of(&job).len();
                    let stored = stored(&job, outcomes.by_ref().take(count));
                    if stored.conflict && self.plan.foreign_writes == 0 {
                        self.fail(|| format!("node {node} stores {} out of order", job.id));
                    }
                    self.nodes[node].content.stored(job.id, &job.sessions, stored.conflict);
                    if job.delete {
                        let delay = self.rng.time(0, MAX_ERASE_DELAY);
                        self.node_later(node, delay, NodeStep::Erase);
                    }
                    self.tell(node, Event::Stored(stored));
                }
                self.nodes[node].writing = false;
                self.start_writing(node);
            }
            NodeStep::Tell(event) => self.tell(node, event),
        }
    }

    fn look_up(&mut self, node: usize, id: CoValueId) -> LookedUp {
        if self.storage_fails() {
            return Err(StorageFailed);
        }
        Ok(lookup::load(&self.nodes[node].storage, id))
    }

    fn storage_fails(&mut self) -> bool {
        !self.healed && self.rng.percent(self.plan.storage_failures)
    }

    /// Writes a turn to its link, when the receiver has room.
    fn write_turn(&mut self, node: usize, peer: PeerId, items: Vec<Item>) {
        let Some(link) = self.links.get(&peer) else { return };
        let side = link.side_of(End::Node(node));
        let slow_until = match link.end(side.other()) {
            End::Client(client) => self.clients[client].slow_until,
            End::Node(_) | End::Liar(_) => 0,
        };
        if link.open && (slow_until > self.now || link.is_full(side.other())) {
            let delay = slow_until.saturating_sub(self.now).clamp(NO_ROOM, 1_000);
            return self.node_later(node, delay, NodeStep::Turn { peer, items });
        }
        let (messages, progress) = turn::write(&self.nodes[node].content, items, self.plan.sizes);
        for message in messages {
            self.check_sent(node, &message);
            self.send(peer, side, message);
        }
        if let Some(account) = self.nodes[node].links.get_mut(&peer) {
            account.busy = false;
        }
        let delay = self.rng.time(0, 2);
        self.node_later(node, delay, NodeStep::Tell(Event::TurnDone { peer, progress }));
    }

    fn start_writing(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        if !state.jobs.is_empty() && !std::mem::replace(&mut state.writing, true) {
            let delay = self.rng.time(0, 1);
            self.node_later(node, delay, NodeStep::Take);
        }
    }

    /// Takes all jobs into one batch: notes first, as the runtime's writer does.
    fn take_jobs(&mut self, node: usize) {
        let mut stores = Vec::new();
        let mut tracked = Vec::new();
        for job in std::mem::take(&mut self.nodes[node].jobs) {
            match job {
                Job::Store(job) => stores.push(job),
                Job::Track(update) => tracked.push(update),
            }
        }
        if at_once(self.nodes[node].storage.track_unsynced(tracked)).is_err() {
            self.fail(|| "a storage in memory does not fail".to_owned());
        }
        let delay = self.storage_time();
        self.node_later(node, delay, NodeStep::Append { stores });
    }

    /// Removes what tombstones have left behind, a part at a time.
    fn erase(&mut self, node: usize) {
        let Ok(ids) = at_once(self.nodes[node].storage.erasable(None, 1)) else { return };
        let Some(id) = ids.first().copied() else { return };
        let before = self.nodes[node].durable(id);
        if at_once(self.nodes[node].storage.erase(id)).is_err() {
            self.fail(|| "a storage in memory does not fail".to_owned());
        }
        self.check_growth(node, id, before.as_ref());
        self.node_later(node, 1, NodeStep::Erase);
    }

    /// Somebody else is faster, and writes a part of what the node is about to write.
    fn write_before(&mut self, node: usize, stores: &[StoreJob]) {
        if self.healed || !self.rng.percent(self.plan.foreign_writes) {
            return;
        }
        let is_long = |job: &&StoreJob| !job.delete && job.sessions.iter().any(is_several);
        let jobs: Vec<_> = stores.iter().filter(is_long).collect();
        let Some(job) = self.rng.pick(&jobs) else { return };
        let Some(run) = job.sessions.iter().find(|run| is_several(run)) else { return };
        let left = 1 + self.rng.below(run.transactions.len() - 1);
        let Some(part) = self.truth.begin(job.id, run, left) else { return };
        self.note(|| format!("somebody else writes {} to the storage of node {node}", job.id));
        let write = Write::Append { id: job.id, header: job.header.clone(), sessions: vec![part] };
        if at_once(self.nodes[node].storage.append(vec![write])).is_err() {
            self.fail(|| "a storage in memory does not fail".to_owned());
        }
    }

    fn append(&mut self, node: usize, stores: Vec<StoreJob>) {
        self.write_before(node, &stores);
        let fails = self.storage_fails();
        // A batch that seems to fail may have been applied after all.
        if fails && self.rng.percent(50) {
            return self.node_later(node, RETRY, NodeStep::Append { stores });
        }
        let before: Vec<_> =
            stores.iter().map(|job| (job.id, self.nodes[node].durable(job.id))).collect();
        let writes = stores.iter().flat_map(writes_of).collect();
        let Ok(outcomes) = at_once(self.nodes[node].storage.append(writes)) else {
            return self.fail(|| "a storage in memory does not fail".to_owned());
        };
        for (id, before) in before {
            self.check_growth(node, id, before.as_ref());
        }
        if fails {
            return self.node_later(node, RETRY, NodeStep::Append { stores });
        }
        let delay = self.storage_time();
        self.node_later(node, delay, NodeStep::Appended { stores, outcomes });
    }

    /// A client has seen something acknowledged.
    pub(super) fn acknowledged(&mut self, node: usize, state: &KnownState) {
        let acknowledged = &mut self.nodes[node].acknowledged;
        let seen = acknowledged.entry(state.id).or_insert_with(|| KnownState::empty(state.id));
        known_state::merge(seen, state);
    }
}

fn is_several(run: &SessionContent) -> bool {
    run.transactions.len() > 1
}

/// A node's name as storage has it.
fn storage_name(name: &UpstreamName) -> downbeat_storage::UpstreamName {
    downbeat_storage::UpstreamName::new(name).expect("the simulation's names are short")
}
