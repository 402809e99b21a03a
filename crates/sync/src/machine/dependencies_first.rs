//! Dependencies, which a peer is sent before the CoValue that needs them.

use downbeat_protocol::CoValueId;
use rustc_hash::FxHashSet;

use crate::event::PeerId;
use crate::machine::Machine;
use crate::state::entry::Entry;
use crate::state::subscription::Subscription;
use crate::state::walk::Walk;

/// The next step of a walk that meets a CoValue.
enum Step {
    /// It is here, and its dependencies have to be looked at.
    Into,
    /// There is nothing to do about it.
    Past,
    /// It has to be looked up.
    Unknown,
}

impl Machine {
    /// The CoValues to send before a CoValue, in their order: depth first, each once. `None` if
    /// some are not in memory: the CoValue is queued again when they have been looked up.
    pub(in crate::machine) fn dependencies_first(
        &mut self,
        peer: PeerId,
        id: CoValueId,
    ) -> Option<Vec<CoValueId>> {
        if !self.is_client(peer) {
            // An upstream asks for the dependencies that it lacks.
            return Some(Vec::new());
        }
        if self.walks.contains(peer, id) {
            return None;
        }
        if self.has_dependencies(peer, id) {
            return Some(Vec::new());
        }
        let mut order = Vec::new();
        let mut is_complete = true;
        let mut seen = FxHashSet::default();
        // Without recursion: a CoValue is met twice, before and after its dependencies.
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
            self.explore(peer, id, id, Walk::default());
            return None;
        }
        for sent in &order {
            let count = self.values.get(sent).map_or(0, |entry| entry.dependencies().len());
            if let Some(subscription) = self.subscribe(peer, *sent) {
                subscription.mark_dependencies_sent(count);
            }
        }
        order.retain(|dependency| *dependency != id && self.lacks(peer, *dependency));
        Some(order)
    }

    /// Whether a peer has been sent all dependencies of a CoValue in memory. This is so for nearly
    /// everything that is sent.
    fn has_dependencies(&self, peer: PeerId, id: CoValueId) -> bool {
        let sent = self.subscription(peer, id).and_then(Subscription::dependencies_sent);
        let entry = self.values.get(&id).filter(|entry| !entry.is_undecided());
        entry.is_some_and(|entry| sent == Some(entry.dependencies().len()))
    }

    /// A CoValue that a walk has waited for has been looked up.
    pub(in crate::machine) fn continue_walk(
        &mut self,
        peer: PeerId,
        goal: CoValueId,
        found: CoValueId,
    ) {
        let Some(mut walk) = self.walks.remove(peer, goal) else { return };
        walk.found(found);
        if let Some(entry) = self.values.get_mut(&found) {
            entry.unpin();
        }
        self.explore(peer, goal, found, walk);
    }

    /// Looks up the CoValues that can be reached from a CoValue and are not in memory.
    fn explore(&mut self, peer: PeerId, goal: CoValueId, from: CoValueId, mut walk: Walk) {
        let mut open = vec![from];
        while let Some(next) = open.pop() {
            if walk.has_met(next) {
                continue;
            }
            let step = self.step(peer, next);
            if matches!(step, Step::Past) {
                continue;
            }
            let is_unknown = matches!(step, Step::Unknown);
            walk.meet(next, is_unknown);
            let entry = self.entry(next);
            entry.pin();
            if is_unknown {
                entry.waiting.push((peer, goal));
            } else {
                open.extend(self.dependencies_to_send(peer, next));
            }
        }
        if !walk.is_done() {
            self.walks.insert(peer, goal, walk);
            return;
        }
        for met in walk.into_met() {
            if let Some(entry) = self.values.get_mut(&met) {
                entry.unpin();
            }
        }
        self.enqueue(peer, goal);
    }

    fn step(&self, peer: PeerId, id: CoValueId) -> Step {
        match self.values.get(&id) {
            Some(entry) if entry.is_undecided() => Step::Unknown,
            Some(entry) if entry.index().is_none() => Step::Past,
            Some(_) => Step::Into,
            // The peer has been sent it with its dependencies, so it need not be looked up: what is
            // new of it is sent for its own sake.
            None if self.was_sent(peer, id) => Step::Past,
            None => Step::Unknown,
        }
    }

    fn was_sent(&self, peer: PeerId, id: CoValueId) -> bool {
        self.subscription(peer, id).is_some_and(|subscription| {
            subscription.dependencies_sent().is_some() && subscription.expects_header()
        })
    }

    /// The dependencies of a CoValue that the peer has not been sent: those that were added since.
    fn dependencies_to_send(&self, peer: PeerId, id: CoValueId) -> &[CoValueId] {
        let dependencies = self.values.get(&id).map(Entry::dependencies);
        let sent = self.subscription(peer, id).and_then(Subscription::dependencies_sent);
        dependencies
            .and_then(|dependencies| dependencies.as_slice().get(sent.unwrap_or(0)..))
            .unwrap_or_default()
    }
}
