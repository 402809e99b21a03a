//! The steps of nodes: events and actions of the machine, storage, and verification.

use downbeat_core::known_state;
use downbeat_driver::{
    EraseStep, Eraser, LookUp, Turn, WriteBatch, WriteJob, Written, block_on, list_stored,
    list_unsynced, verify,
};
use downbeat_protocol::{CoValueId, KnownState, Message, SessionContent};
use downbeat_storage::{Outcome, Storage, StorageError, Write};
use downbeat_sync::cost::content_credit;
use downbeat_sync::{
    Action, Event, Item, PeerId, PeerRole, Progress, StorageFailed, StoreJob, VerifyJob,
};

use super::chaos::node_name;
use super::{LookedUp, NodeStep, Step, World};
use crate::link::{End, Side};
use crate::log::describe_counts;
use crate::node::{Account, Node};

/// The time until a failed storage operation is tried again, in milliseconds.
const RETRY: u64 = 500;

/// The longest time from a deletion to the erasure of the content, in milliseconds.
const MAX_ERASE_DELAY: u64 = 3_000;

/// The time until a turn is tried again whose receiver had no room, in milliseconds.
const NO_ROOM: u64 = 5;

impl World {
    pub(super) fn node_connected(&mut self, node: usize, id: PeerId, upstream: Option<usize>) {
        self.nodes[node].links.insert(id, Account::default());
        let role =
            upstream.map_or(PeerRole::Client, |upstream| PeerRole::Upstream(node_name(upstream)));
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

    /// Delivers an event to the machine, and polls the machine now or soon.
    fn tell(&mut self, node: usize, event: Event) {
        let now = self.now;
        if self.rng.percent(75) {
            self.tell_of_turns(node);
        }
        self.note_event(node, &event);
        self.nodes[node].machine.handle(now, event);
        if self.rng.percent(75) {
            self.poll(node);
        } else if !std::mem::replace(&mut self.nodes[node].poll_due, true) {
            let delay = self.rng.time(0, 3);
            self.node_later(node, delay, NodeStep::Poll);
        }
    }

    /// Tells the machine of the turns that are written, and that nothing has waited for.
    fn tell_of_turns(&mut self, node: usize) {
        let now = self.now;
        let Node { machine, links, .. } = &mut self.nodes[node];
        for (peer, account) in links {
            if std::mem::take(&mut account.has_finished) {
                machine.handle(now, Event::TurnDone { peer: *peer, progress: Vec::new() });
            }
        }
    }

    /// A turn is written. The machine is told soon, if it waits for that.
    fn turn_written(&mut self, node: usize, peer: PeerId, progress: Vec<Progress>) {
        if let Some(account) = self.nodes[node].links.get_mut(&peer) {
            account.busy = false;
            if progress.is_empty() && !account.is_awaited {
                account.has_finished = true;
                return;
            }
        }
        let delay = self.rng.time(0, 2);
        self.node_later(node, delay, NodeStep::Tell(Event::TurnDone { peer, progress }));
    }

    fn await_turn(&mut self, node: usize, peer: PeerId) {
        let Some(account) = self.nodes[node].links.get_mut(&peer) else { return };
        account.is_awaited = true;
        if std::mem::take(&mut account.has_finished) {
            let progress = Vec::new();
            self.node_later(node, 0, NodeStep::Tell(Event::TurnDone { peer, progress }));
        }
    }

    /// Logs an event from storage or the verifier.
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
            Action::AwaitTurn(peer) => self.await_turn(node, peer),
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
                self.push_job(node, WriteJob::Store(job, ()));
            }
            Action::Track { id, upstream, synced } => {
                self.note(|| format!("node {node} tracks {id} for {upstream}: synced {synced}"));
                self.push_job(node, WriteJob::track(id, upstream, synced));
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
            Action::Close { peer, reason } => {
                self.fail(|| format!("node {node} closes {peer:?}: {reason}"));
            }
            Action::Report(report) => self.check_report(node, &report),
        }
    }

    fn release(&mut self, node: usize, peer: PeerId, bytes: u64) {
        let state = &mut self.nodes[node];
        let Some(account) = state.links.get_mut(&peer).or_else(|| state.ended.get_mut(&peer))
        else {
            return self.fail(|| format!("node {node} releases credit to the unknown {peer:?}"));
        };
        account.released += bytes;
        if account.released > account.taken {
            return self.fail(|| format!("node {node} releases more than {peer:?} has used"));
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
            NodeStep::Verify(job) => self.verify(node, job),
            NodeStep::Turn { peer, items } => self.write_turn(node, peer, items),
            NodeStep::ListUnsynced { .. } | NodeStep::ListStored { .. } if self.storage_fails() => {
                self.node_later(node, RETRY, what);
            }
            NodeStep::Erase => self.erase(node),
            NodeStep::ListUnsynced { upstream, after, limit } => {
                let storage = &*self.nodes[node].storage;
                match block_on(list_unsynced(storage, &upstream, after, limit)) {
                    Ok(ids) => self.tell(node, Event::Unsynced { upstream, ids }),
                    Err(error) => self.storage_failed(&error),
                }
            }
            NodeStep::ListStored { upstream, after, limit } => {
                let storage = &*self.nodes[node].storage;
                match block_on(list_stored(storage, after, limit)) {
                    Ok(values) => self.tell(node, Event::Listed { upstream, values }),
                    Err(error) => self.storage_failed(&error),
                }
            }
            NodeStep::Take => self.take_jobs(node),
            NodeStep::Append(batch) => self.append(node, batch),
            NodeStep::Appended(batch, outcomes) => self.appended(node, batch, outcomes),
            NodeStep::Tell(event) => self.tell(node, event),
        }
    }

    fn look_up(&mut self, node: usize, id: CoValueId) -> LookedUp {
        if self.storage_fails() {
            return Err(StorageFailed);
        }
        let mut look_up = LookUp::new(vec![id]);
        match block_on(look_up.next(&*self.nodes[node].storage)) {
            Some((_, Ok(loaded))) => Ok(loaded),
            Some((_, Err(error))) => {
                self.storage_failed(&error);
                Err(StorageFailed)
            }
            None => {
                self.fail(|| format!("node {node} has no result for the look-up of {id}"));
                Err(StorageFailed)
            }
        }
    }

    fn verify(&mut self, node: usize, job: VerifyJob) {
        let content = &self.nodes[node].content;
        let verification = block_on(verify(content, &self.signatures, job));
        self.tell(node, Event::Verified(verification.into_verified()));
    }

    fn storage_fails(&mut self) -> bool {
        !self.healed && self.rng.percent(self.plan.storage_failures)
    }

    /// Writes a turn to its link, or tries again later if the receiver has no room.
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
        let mut turn = Turn::new(items, self.plan.turns);
        while let Some(messages) = block_on(turn.next(&self.nodes[node].content)) {
            for message in messages {
                self.check_sent(node, message);
                self.send(peer, side, message.clone());
            }
        }
        let report = turn.finish();
        if let Some((_, error)) = report.failures.first() {
            self.storage_failed(error);
        }
        let progress = report.progress;
        self.turn_written(node, peer, progress);
    }

    fn push_job(&mut self, node: usize, job: WriteJob<()>) {
        let bytes = job.bytes();
        self.nodes[node].jobs.push(job, bytes);
        self.start_writing(node);
    }

    fn start_writing(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        if !state.jobs.is_empty() && !std::mem::replace(&mut state.writing, true) {
            let delay = self.rng.time(0, 1);
            self.node_later(node, delay, NodeStep::Take);
        }
    }

    /// Starts writing the next batch.
    fn take_jobs(&mut self, node: usize) {
        let batch = WriteBatch::new(self.nodes[node].jobs.next_batch());
        if let Err(error) = block_on(batch.track(&*self.nodes[node].storage)) {
            self.storage_failed(&error);
        }
        let delay = self.storage_time();
        self.node_later(node, delay, NodeStep::Append(batch));
    }

    /// Erases a part of the content of deleted CoValues.
    fn erase(&mut self, node: usize) {
        let ids = block_on(self.nodes[node].storage.erasable(None, 1)).unwrap_or_default();
        let before = ids.first().and_then(|id| self.nodes[node].durable(*id));
        match block_on(Eraser::new().step(&*self.nodes[node].storage)) {
            Ok(EraseStep::Erased(id, _)) => {
                self.check_growth(node, id, before.as_ref());
                self.node_later(node, 1, NodeStep::Erase);
            }
            Ok(EraseStep::Done) => {}
            Ok(EraseStep::Damaged(_, error)) | Err(error) => self.storage_failed(&error),
        }
    }

    fn storage_failed(&mut self, error: &StorageError) {
        self.fail(|| format!("the storage in memory has failed: {error}"));
    }

    /// Lets another writer write a part of the node's next batch first, at random.
    fn write_before(&mut self, node: usize, batch: &WriteBatch<()>) {
        if self.healed || !self.rng.percent(self.plan.foreign_writes) {
            return;
        }
        let is_long = |job: &&StoreJob| !job.delete && job.sessions.iter().any(is_several);
        let jobs: Vec<_> = batch.stores().filter(is_long).collect();
        let Some(job) = self.rng.pick(&jobs) else { return };
        let Some(run) = job.sessions.iter().find(|run| is_several(run)) else { return };
        let left = 1 + self.rng.below(run.transactions.len() - 1);
        let Some(part) = self.truth.begin(job.id, run, left) else { return };
        self.note(|| format!("another writer writes {} to the storage of node {node}", job.id));
        let write = Write::Append { id: job.id, header: job.header.clone(), sessions: vec![part] };
        if let Err(error) = block_on(self.nodes[node].storage.append(vec![write])) {
            self.storage_failed(&error);
        }
    }

    fn append(&mut self, node: usize, batch: WriteBatch<()>) {
        self.write_before(node, &batch);
        let fails = self.storage_fails();
        // A failed batch may or may not have been stored.
        if fails && self.rng.percent(50) {
            return self.node_later(node, RETRY, NodeStep::Append(batch));
        }
        let before: Vec<_> =
            batch.stores().map(|job| (job.id, self.nodes[node].durable(job.id))).collect();
        let outcomes = match block_on(batch.append(&self.nodes[node].content)) {
            Ok(outcomes) => outcomes,
            Err(error) => return self.storage_failed(&error),
        };
        for (id, before) in before {
            self.check_growth(node, id, before.as_ref());
        }
        if fails {
            return self.node_later(node, RETRY, NodeStep::Append(batch));
        }
        let delay = self.storage_time();
        self.node_later(node, delay, NodeStep::Appended(batch, outcomes));
    }

    fn appended(&mut self, node: usize, batch: WriteBatch<()>, outcomes: Vec<Outcome>) {
        let content = self.nodes[node].content.clone();
        for Written { job, stored, context: () } in batch.finish(&content, outcomes) {
            if stored.conflict && self.plan.foreign_writes == 0 {
                self.fail(|| format!("node {node} stores {} out of order", job.id));
            }
            if job.delete {
                let delay = self.rng.time(0, MAX_ERASE_DELAY);
                self.node_later(node, delay, NodeStep::Erase);
            }
            self.tell(node, Event::Stored(stored));
        }
        self.nodes[node].writing = false;
        self.start_writing(node);
    }

    /// Records that a client has received an acknowledgement of the node.
    pub(super) fn acknowledged(&mut self, node: usize, state: &KnownState) {
        let acknowledged = &mut self.nodes[node].acknowledged;
        let seen = acknowledged.entry(state.id).or_insert_with(|| KnownState::empty(state.id));
        known_state::merge(seen, state);
    }
}

fn is_several(run: &SessionContent) -> bool {
    run.transactions.len() > 1
}
