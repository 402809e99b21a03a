//! Walks through what a CoValue depends on, which a peer is sent ahead of it.
//!
//! What is not in memory is looked up first, level by level; meanwhile the entries on the way are
//! pinned, so that a machine with little memory does not forget them again before it is done.

use downbeat_protocol::CoValueId;
use rustc_hash::FxHashSet;

use crate::event::PeerId;
use crate::machine::Machine;
use crate::subscription::Subscription;

/// A walk that waits for look-ups.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// CoValues that are being looked up.
    open: usize,
    /// CoValues that have been met, each of which is pinned.
    seen: FxHashSet<CoValueId>,
}

/// What a walk makes of a CoValue that it meets.
enum Step {
    /// It is there, and what it depends on has to be looked at.
    Into,
    /// There is nothing to do about it.
    Past,
    /// It has to be looked up.
    Unknown,
}

impl Machine {
    /// The CoValues to send before a CoValue, in their order: depth first, each once. `None` if
    /// some are not in memory: the CoValue is put into the peer's queue again when they have been
    /// looked up.
    pub(crate) fn dependencies_first(
        &mut self,
        peer: PeerId,
        id: CoValueId,
    ) -> Option<Vec<CoValueId>> {
        if self.peers.get(&peer).is_none_or(|state| state.upstream.is_some()) {
            // An upstream asks for what it lacks.
            return Some(Vec::new());
        }
        if self.walks.contains_key(&(peer, id)) {
            return None;
        }
        if self.has_dependencies(peer, id) {
            return Some(Vec::new());
        }
        let mut order = Vec::new();
        let mut is_complete = true;
        let mut seen = FxHashSet::default();
        // Without recursion: a CoValue is met twice, before and after what it depends on.
        let mut open = vec![(id, false)];
        while let Some((next, is_done)) = open.pop() {
            if is_done {
                order.push(next);
                continue;
            }
            if !seen.insert(next) {
                continue;
            }
            match self.step(peer, next) {
                Step::Past => {}
                Step::Unknown => is_complete = false,
                Step::Into => {
                    open.push((next, true));
                    let dependencies = self.dependencies_to_send(peer, next);
                    open.extend(dependencies.iter().rev().map(|dependency| (*dependency, false)));
                }
            }
        }
        if !is_complete {
            self.walks.insert((peer, id), Walk::default());
            self.explore(peer, id, id);
            return None;
        }
        for sent in &order {
            let count = self.values.get(sent).map_or(0, |entry| entry.dependencies.len());
            if let Some(subscription) = self.subscribe(peer, *sent) {
                subscription.mark_dependencies_sent(count);
            }
        }
        order.retain(|dependency| *dependency != id && self.lacks(peer, *dependency));
        Some(order)
    }

    /// Whether a peer has been sent all that a CoValue in memory depends on, which is so for nearly
    /// all that is sent.
    fn has_dependencies(&self, peer: PeerId, id: CoValueId) -> bool {
        let sent = self.subscription(peer, id).and_then(Subscription::dependencies_sent);
        let entry = self.values.get(&id).filter(|entry| !entry.is_undecided());
        entry.is_some_and(|entry| sent == Some(entry.dependencies.len()))
    }

    /// A CoValue that a walk has waited for is there, or is known not to be.
    pub(crate) fn continue_walk(&mut self, peer: PeerId, goal: CoValueId, found: CoValueId) {
        let Some(walk) = self.walks.get_mut(&(peer, goal)) else { return };
        walk.open -= 1;
        walk.seen.remove(&found);
        if let Some(entry) = self.values.get_mut(&found) {
            entry.pins = entry.pins.saturating_sub(1);
        }
        self.explore(peer, goal, found);
    }

    /// Looks up what is not in memory of what can be reached from a CoValue.
    fn explore(&mut self, peer: PeerId, goal: CoValueId, from: CoValueId) {
        let Some(mut walk) = self.walks.remove(&(peer, goal)) else { return };
        let mut open = vec![from];
        while let Some(next) = open.pop() {
            if walk.seen.contains(&next) {
                continue;
            }
            let step = self.step(peer, next);
            if matches!(step, Step::Past) {
                continue;
            }
            walk.seen.insert(next);
            let entry = self.entry(next);
            entry.pins += 1;
            if matches!(step, Step::Unknown) {
                entry.waiting.push((peer, goal));
                walk.open += 1;
            } else {
                open.extend(self.dependencies_to_send(peer, next));
            }
        }
        if walk.open > 0 {
            self.walks.insert((peer, goal), walk);
            return;
        }
        for met in &walk.seen {
            if let Some(entry) = self.values.get_mut(met) {
                entry.pins = entry.pins.saturating_sub(1);
            }
        }
        self.owe(peer, goal);
    }

    fn step(&self, peer: PeerId, id: CoValueId) -> Step {
        match self.values.get(&id) {
            Some(entry) if entry.is_undecided() => Step::Unknown,
            Some(entry) if entry.index().is_none() => Step::Past,
            Some(_) => Step::Into,
            // What the peer has been sent with all before it need not be looked up again: what is
            // new of it is sent for its own sake.
            None if self.was_sent(peer, id) => Step::Past,
            None => Step::Unknown,
        }
    }

    fn was_sent(&self, peer: PeerId, id: CoValueId) -> bool {
        self.subscription(peer, id).is_some_and(|subscription| {
            subscription.dependencies_sent().is_some() && subscription.expected().header
        })
    }

    /// What a CoValue depends on, unless the peer has been sent all of that already.
    fn dependencies_to_send(&self, peer: PeerId, id: CoValueId) -> &[CoValueId] {
        let dependencies = self.values.get(&id).map(|entry| &entry.dependencies);
        let sent = self.subscription(peer, id).and_then(Subscription::dependencies_sent);
        dependencies
            .filter(|dependencies| sent.is_none_or(|sent| sent < dependencies.len()))
            .map_or(&[], |dependencies| dependencies.as_slice())
    }
}
