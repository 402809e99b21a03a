//! Content that has to wait for the CoValues that it depends on.

use downbeat_protocol::{CoValueId, Content};
use rustc_hash::FxHashSet;

use crate::content::message_bytes;
use crate::covalue::{Entry, Held, Presence};
use crate::event::{Millis, PeerId};
use crate::machine::Machine;
use crate::report::{Rejection, Report};

impl Machine {
    /// The dependencies without which content cannot be taken. Storage is asked for those that
    /// are not in memory.
    pub(crate) fn missing_dependencies(
        &mut self,
        id: CoValueId,
        content: &Content,
    ) -> Vec<CoValueId> {
        let Some(entry) = self.values.get(&id) else { return Vec::new() };
        // Dependencies that were there once need not be in memory; the accounts that sign must.
        let mut needed: Vec<_> = entry.dependencies[entry.resolved..].to_vec();
        needed.extend(content.sessions.iter().filter_map(|run| run.session.account()));
        needed.retain(|dependency| *dependency != id);

        let mut missing = Vec::new();
        for dependency in needed {
            let is_here = self.entry(dependency).index().is_some();
            if !is_here && !missing.contains(&dependency) && !self.depends_on(dependency, id) {
                missing.push(dependency);
            }
        }
        if missing.is_empty()
            && let Some(entry) = self.values.get_mut(&id)
        {
            entry.resolved = entry.dependencies.len();
        }
        missing
    }

    /// Whether a CoValue depends on another, directly or through others. Those that depend on
    /// each other do not wait for each other.
    fn depends_on(&self, id: CoValueId, other: CoValueId) -> bool {
        let mut seen = FxHashSet::default();
        let mut open = vec![id];
        while let Some(next) = open.pop() {
            if next == other {
                return true;
            }
            if seen.insert(next)
                && let Some(entry) = self.values.get(&next)
            {
                open.extend(&entry.dependencies);
            }
        }
        false
    }

    /// Keeps content until its dependencies are there, or for a time.
    pub(crate) fn hold(
        &mut self,
        peer: PeerId,
        content: Content,
        missing: &[CoValueId],
        until: Option<Millis>,
    ) {
        let id = content.id;
        let bytes = message_bytes(&content);
        // The peer's credit is given back, for it must be able to send the dependencies.
        self.release(peer, if until.is_none() { bytes } else { 0 });
        let bound = self.config.held_bytes_per_peer;
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if state.held_bytes + bytes > bound {
            return self.report(Report::new(peer, id, Rejection::HeldTooMuch));
        }
        state.held_bytes += bytes;
        let until = until.unwrap_or(self.now + self.config.hold_time);
        self.timers.insert((until, id));
        self.entry(id).held.push_back(Held { peer, content, bytes, until });
        for dependency in missing {
            let entry = self.entry(*dependency);
            if !entry.dependants.contains(&id) {
                entry.dependants.push(id);
            }
            if matches!(entry.presence, Presence::Absent) {
                self.owe_load(peer, *dependency);
            }
        }
    }

    /// Storage does not have a dependency: those who sent what depends on it are asked.
    pub(crate) fn ask_for_dependency(&mut self, dependency: CoValueId) {
        let Some(entry) = self.values.get(&dependency) else { return };
        let mut peers: Vec<PeerId> = entry
            .dependants
            .iter()
            .filter_map(|id| self.values.get(id))
            .flat_map(|entry| entry.held.iter().map(|held| held.peer))
            .collect();
        peers.sort_unstable();
        peers.dedup();
        for peer in peers {
            self.owe_load(peer, dependency);
        }
    }

    fn owe_load(&mut self, peer: PeerId, dependency: CoValueId) {
        if let Some(subscription) = self.track(peer, dependency) {
            subscription.owes.load = true;
            self.owe(peer, dependency);
        }
    }

    /// A CoValue is there now: what waited for it is looked at again.
    pub(crate) fn release_dependants(&mut self, id: CoValueId) {
        let Some(entry) = self.values.get_mut(&id) else { return };
        for dependant in std::mem::take(&mut entry.dependants) {
            self.retry_held(dependant);
        }
    }

    fn retry_held(&mut self, id: CoValueId) {
        let Some(entry) = self.values.get_mut(&id) else { return };
        for held in std::mem::take(&mut entry.held) {
            self.timers.remove(&(held.until, id));
            if let Some(state) = self.peers.get_mut(&held.peer) {
                state.held_bytes -= held.bytes;
            }
            self.take_content(held.peer, held.content, Some(held.until));
        }
    }

    /// Gives up what has waited too long.
    pub(crate) fn give_up_held(&mut self, id: CoValueId) {
        let now = self.now;
        let Some(entry) = self.values.get_mut(&id) else { return };
        let mut given_up = Vec::new();
        entry.held.retain_mut(|held| {
            let keep = held.until > now;
            if !keep {
                given_up.push((held.peer, held.bytes));
            }
            keep
        });
        let dependencies = entry.dependencies.clone();
        let missing = dependencies
            .into_iter()
            .find(|dependency| self.values.get(dependency).and_then(Entry::index).is_none());
        for (peer, bytes) in given_up {
            if let Some(state) = self.peers.get_mut(&peer) {
                state.held_bytes -= bytes;
            }
            let rejection = Rejection::MissingDependency(missing.unwrap_or(id));
            self.report(Report::new(peer, id, rejection));
        }
        if self.values.get(&id).is_some_and(|entry| entry.held.is_empty()) {
            for entry in self.values.values_mut() {
                entry.dependants.retain(|dependant| *dependant != id);
            }
        }
    }
}
