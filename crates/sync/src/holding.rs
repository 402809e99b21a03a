//! Content that has to wait for the CoValues that it depends on.
//!
//! It waits in the entry of its CoValue, in a queue for each peer that sent any, so that nobody
//! holds up anybody else by what it says its content depends on. A queue is registered with every
//! CoValue that it waits for (`Entry::dependants`) until it is released or given up.

use std::collections::{BTreeSet, VecDeque};

use downbeat_core::dependencies;
use downbeat_protocol::{CoValueId, Content, Header, Ruleset, SessionContent};
use rustc_hash::FxHashSet;

use crate::content::content_credit;
use crate::covalue::Presence;
use crate::event::{Millis, PeerId};
use crate::faults::Fault;
use crate::machine::Machine;
use crate::report::{Rejection, Report};

/// CoValues that are looked at to find out whether some wait for each other in a circle. Real
/// circles are made of a few groups and accounts; what is made up to be longer waits until it is
/// given up.
const MAX_CIRCLE_STEPS: usize = 1_000;

/// Content of one CoValue from one peer that waits for dependencies, in its order.
#[derive(Debug)]
pub(crate) struct HeldQueue {
    peer: PeerId,
    contents: VecDeque<Held>,
    /// All that the contents need, whether it is there or not, so that what is there stays.
    awaited: Vec<CoValueId>,
    /// Those that have not come yet.
    missing: FxHashSet<CoValueId>,
}

/// What content needs.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// What is there.
    pub here: Vec<CoValueId>,
    /// What is not there, and has to be waited for.
    pub missing: Vec<CoValueId>,
    /// Of what is missing, that which waits for this content itself.
    pub circles: Vec<CoValueId>,
}

#[derive(Debug)]
struct Held {
    content: Content,
    bytes: u64,
    /// When it is given up.
    until: Millis,
    /// Why it was refused, if that may change.
    refused: Option<Rejection>,
}

impl Machine {
    /// Bytes of content that wait for dependencies.
    pub fn held_bytes(&self) -> u64 {
        self.peers.values().map(|peer| peer.held_bytes).sum::<u64>() + self.left_bytes
    }

    /// Whether content from a peer waits already, so that what comes after it has to wait too.
    pub(crate) fn is_holding(&self, peer: PeerId, id: CoValueId) -> bool {
        self.values.get(&id).is_some_and(|entry| entry.held.iter().any(|queue| queue.peer == peer))
    }

    /// What content needs that its CoValue did not need before. Storage is asked for what is not
    /// in memory.
    pub(crate) fn needs(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        header: &Header,
        content: &Content,
    ) -> Needs {
        let mut needs = Needs::default();
        let is_client = self.is_client(peer);
        let Some(entry) = self.values.get(&id) else { return needs };
        let index = entry.index();
        let is_deleted = index.is_some_and(|index| index.deleted);
        // Nothing is checked in what is passed over.
        let is_new = |run: &&SessionContent| {
            let verified = index.map_or(0, |index| index.verified().get(&run.session));
            // What a client repeats is compared, and who has signed it told.
            let is_compared = is_client && run.after < verified && !run.transactions.is_empty();
            (run.end() > verified || is_compared) && (!is_deleted || run.session.is_delete())
        };
        // The accounts that sign must be in memory; of the others it is enough that they were
        // there when content with that dependency was taken before.
        let signers: FxHashSet<CoValueId> = content
            .sessions
            .iter()
            .filter(is_new)
            .filter_map(|run| run.session.account())
            .collect();
        // The same goes for the group that judges a deletion.
        let deletes = content.sessions.iter().any(|run| run.session.is_delete());
        let judge = match header.ruleset() {
            Ruleset::OwnedByGroup { group } if deletes => Some(*group),
            _ => None,
        };
        let mut needed = dependencies::of_content(id, header, content);
        needed.retain(|dependency| {
            signers.contains(dependency)
                || judge == Some(*dependency)
                || !is_deleted && !entry.dependencies.contains(*dependency)
        });

        let may_be_circle = !entry.dependants.is_empty();
        let mut steps = MAX_CIRCLE_STEPS;
        for dependency in needed {
            if self.entry(dependency).index().is_some() {
                needs.here.push(dependency);
                continue;
            }
            // CoValues that depend on each other do not wait for each other; but nothing goes
            // without the account that signs it.
            let is_circle = may_be_circle && self.waits_for(dependency, id, &mut steps);
            let signs = signers.contains(&dependency);
            if signs || !is_circle {
                needs.missing.push(dependency);
            }
            if signs && is_circle {
                needs.circles.push(dependency);
            }
        }
        needs
    }

    /// Whether held content of a CoValue waits for another, directly or through others.
    fn waits_for(&self, id: CoValueId, other: CoValueId, steps: &mut usize) -> bool {
        let mut seen = FxHashSet::default();
        let mut open = vec![id];
        while let Some(next) = open.pop() {
            if next == other {
                return true;
            }
            let Some(entry) = self.values.get(&next).filter(|entry| !entry.held.is_empty()) else {
                continue;
            };
            if !seen.insert(next) {
                continue;
            }
            for queue in &entry.held {
                let Some(left) = steps.checked_sub(1 + queue.missing.len()) else { return false };
                *steps = left;
                open.extend(queue.awaited.iter().filter(|id| queue.missing.contains(id)));
            }
        }
        false
    }

    /// Keeps content until its dependencies are there, or for a time. `waited` is until when it
    /// may wait, if it has waited before.
    pub(crate) fn hold(
        &mut self,
        peer: PeerId,
        content: Content,
        needs: &Needs,
        waited: Option<Millis>,
    ) {
        self.keep(peer, content, needs, waited, None);
    }

    /// Keeps content that was refused for what is there of what it needs, until there is more of
    /// that, or for a time. Its credit has been released.
    pub(crate) fn hold_refused(
        &mut self,
        peer: PeerId,
        content: Content,
        needs: &Needs,
        until: Millis,
        rejection: Rejection,
    ) {
        self.keep(peer, content, needs, Some(until), Some(rejection));
    }

    /// Whether content from a peer waits that was refused.
    pub(crate) fn is_holding_refused(&self, peer: PeerId, id: CoValueId) -> bool {
        let held = self.values.get(&id).map_or(&[][..], |entry| &entry.held);
        let mut queues = held.iter().filter(|queue| queue.peer == peer);
        queues.any(|queue| queue.contents.iter().any(|held| held.refused.is_some()))
    }

    fn keep(
        &mut self,
        peer: PeerId,
        content: Content,
        needs: &Needs,
        waited: Option<Millis>,
        refused: Option<Rejection>,
    ) {
        let id = content.id;
        let bytes = content_credit(&content);
        if waited.is_none() {
            // The peer's credit is given back, for it must be able to send the dependencies.
            self.release(peer, bytes);
        }
        let bound = self.config.held_bytes_per_peer;
        let state = self.peers.get_mut(&peer);
        let held_bytes =
            state.as_ref().map_or(self.left_bytes, |state| state.held_bytes).saturating_add(bytes);
        if held_bytes > bound {
            self.ask_again(peer, id);
            return self.report(Report::new(peer, id, Rejection::HeldTooMuch));
        }
        match state {
            Some(state) => {
                state.holds.insert(id);
                state.held_bytes = held_bytes;
            }
            None => self.left_bytes = held_bytes,
        }
        let until = waited.unwrap_or(self.now + self.config.hold_time);
        self.timers.insert((until, id));
        let queue = self.queue_of(peer, id);
        queue.contents.push_back(Held { content, bytes, until, refused });
        queue.awaited.extend(needs.here.iter().chain(&needs.missing));
        queue.missing.extend(&needs.missing);
        for dependency in needs.here.iter().chain(&needs.missing).copied() {
            let entry = self.entry(dependency);
            let is_registered = !entry.dependants.insert((id, peer));
            let is_absent = matches!(entry.presence, Presence::Absent);
            if !is_registered && (is_absent || matches!(entry.presence, Presence::Asking(_))) {
                self.ask_sender(peer, dependency, is_absent);
            }
        }
        if waited.is_none() {
            // What this waits for, and what waits for this, finds out when it is looked at again.
            for &circle in &needs.circles {
                let held = self.values.get(&circle).map_or(&[][..], |entry| &entry.held);
                let queues: Vec<_> = held.iter().map(|queue| (circle, queue.peer)).collect();
                self.retries.extend(queues);
            }
        }
    }

    /// Content that waits already waits for another CoValue that is there, or may be.
    pub(crate) fn await_also(&mut self, peer: PeerId, id: CoValueId, other: CoValueId) {
        if self.entry(other).dependants.insert((id, peer)) {
            self.queue_of(peer, id).awaited.push(other);
        }
    }

    fn queue_of(&mut self, peer: PeerId, id: CoValueId) -> &mut HeldQueue {
        let held = &mut self.entry(id).held;
        let position = held.iter().position(|queue| queue.peer == peer).unwrap_or_else(|| {
            held.push(HeldQueue {
                peer,
                contents: VecDeque::new(),
                awaited: Vec::new(),
                missing: FxHashSet::default(),
            });
            held.len() - 1
        });
        &mut held[position]
    }

    /// Storage does not have a dependency: those who sent what depends on it are asked.
    pub(crate) fn ask_for_dependency(&mut self, dependency: CoValueId) {
        let Some(entry) = self.values.get(&dependency) else { return };
        let peers: BTreeSet<PeerId> = entry.dependants.iter().map(|(_, peer)| *peer).collect();
        for peer in peers {
            self.ask_sender(peer, dependency, false);
        }
    }

    /// An upstream that was asked before is asked again only if it has sent something since that
    /// needs what it did not have.
    pub(crate) fn ask_sender(&mut self, peer: PeerId, dependency: CoValueId, again: bool) {
        let is_client = self.is_client(peer);
        let now = self.now;
        let Some(subscription) = self.track(peer, dependency) else { return };
        if subscription.asked && (is_client || !again) {
            return;
        }
        subscription.ask(now);
        self.owe(peer, dependency);
    }

    /// A CoValue is there now: what waited for nothing else is looked at again.
    pub(crate) fn release_dependants(&mut self, id: CoValueId) {
        if self.has_fault(Fault::ForgetHeld) {
            return;
        }
        let Some(entry) = self.values.get(&id) else { return };
        let dependants: Vec<_> = entry.dependants.iter().copied().collect();
        for (dependant, peer) in dependants {
            let queue = self
                .values
                .get_mut(&dependant)
                .and_then(|entry| entry.held.iter_mut().find(|queue| queue.peer == peer));
            if let Some(queue) = queue
                && queue.missing.remove(&id)
                && queue.missing.is_empty()
            {
                self.retries.push_back((dependant, peer));
            }
        }
    }

    /// Takes content that has waited. What that releases in turn is put behind it, so that long
    /// chains of dependencies cost no stack.
    pub(crate) fn retry_held(&mut self) {
        while let Some((id, peer)) = self.retries.pop_front() {
            for held in self.take_held(peer, id).into_iter().flat_map(|queue| queue.contents) {
                self.take_content(peer, held.content, Some(held.until));
            }
            self.finish_comparisons(id);
        }
    }

    /// Takes a queue out, with all that refers to it.
    fn take_held(&mut self, peer: PeerId, id: CoValueId) -> Option<HeldQueue> {
        let held = &mut self.values.get_mut(&id)?.held;
        let position = held.iter().position(|queue| queue.peer == peer)?;
        let queue = held.remove(position);
        for dependency in &queue.awaited {
            if let Some(entry) = self.values.get_mut(dependency) {
                entry.dependants.remove(&(id, peer));
            }
        }
        let bytes = queue.contents.iter().map(|held| held.bytes).sum();
        let held_bytes = match self.peers.get_mut(&peer) {
            Some(state) => {
                state.holds.remove(&id);
                &mut state.held_bytes
            }
            None => &mut self.left_bytes,
        };
        *held_bytes = held_bytes.saturating_sub(bytes);
        Some(queue)
    }

    /// Gives up what has waited too long. What came behind it could not be taken without it.
    pub(crate) fn give_up_held(&mut self, id: CoValueId) {
        let now = self.now;
        let Some(entry) = self.values.get(&id) else { return };
        let is_late =
            |queue: &&HeldQueue| queue.contents.front().is_some_and(|held| held.until <= now);
        let late: Vec<PeerId> = entry.held.iter().filter(is_late).map(|queue| queue.peer).collect();
        for peer in late {
            if self.is_holding_refused(peer, id) {
                self.give_up_refused(peer, id);
                continue;
            }
            let Some(queue) = self.take_held(peer, id) else { continue };
            self.ask_again(peer, id);
            let missing = queue.awaited.iter().find(|id| queue.missing.contains(id));
            let rejection = Rejection::MissingDependency(missing.copied().unwrap_or(id));
            self.report(Report::new(peer, id, rejection));
        }
    }

    /// What a peer has sent and was refused stays so. What came with it waited for its order only.
    pub(crate) fn give_up_refused(&mut self, peer: PeerId, id: CoValueId) {
        for held in self.take_held(peer, id).into_iter().flat_map(|queue| queue.contents) {
            match (held.refused, &held.content.sessions[..]) {
                (Some(rejection), [run]) => {
                    self.report(Report::new(peer, id, rejection).session(&run.session));
                }
                _ => self.take_content(peer, held.content, Some(held.until)),
            }
        }
    }

    /// An upstream's content was lost here: it is asked for it again when somebody wants it.
    pub(crate) fn ask_again(&mut self, peer: PeerId, id: CoValueId) {
        if self.peers.get(&peer).is_some_and(|state| state.upstream.is_some())
            && let Some(subscription) = self.subscription_mut(peer, id)
        {
            subscription.ask_again();
        }
    }

    /// What a peer that has left has waiting is kept, for its dependencies may be on their way,
    /// as long as all those who left have no more of it than one peer may.
    pub(crate) fn keep_held_of(
        &mut self,
        peer: PeerId,
        held_bytes: u64,
        holds: &BTreeSet<CoValueId>,
    ) {
        self.left_bytes += held_bytes;
        if self.left_bytes <= self.config.held_bytes_per_peer {
            return;
        }
        for id in holds {
            if self.take_held(peer, *id).is_some() {
                self.report(Report::new(peer, *id, Rejection::HeldTooMuch));
            }
        }
    }
}
