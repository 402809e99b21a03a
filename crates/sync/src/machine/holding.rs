//! Content that waits for its dependencies.
//!
//! A queue of held content (`HeldQueue`) is registered with every CoValue that it waits for
//! (`Entry::dependants`) until it is released or given up.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use downbeat_core::dependencies;
use downbeat_protocol::{CoValueId, Content, Header, Ruleset, SessionContent};
use rustc_hash::FxHashSet;

use crate::cost::{AWAITED_BYTES, content_credit};
use crate::event::PeerId;
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::rejection::Rejection;
use crate::report::Report;
use crate::state::entry::Entry;
use crate::state::held::{Held, HeldQueue, Needs};
use crate::state::index::Index;
use crate::state::peer::HeldShare;
use crate::state::pending::PendingContent;
use crate::state::timers::Timer;

/// Dependencies that are looked up and asked for at once. When they are here, the content is looked
/// at again, and may wait for as many more as have been found: so a sender that names very many
/// pays for each doubling, and a large group waits a few times.
const DEPENDENCIES_AT_ONCE: usize = 1_000;

/// CoValues that are looked at to find out whether some wait for each other in a circle. Real
/// circles have a few groups and accounts; content in a longer one waits until it is given up.
const MAX_CIRCLE_STEPS: usize = 1_000;

impl Machine {
    /// The dependencies of content that its CoValue did not have before. Storage is asked for
    /// those that are not in memory. If very many are missing, the others are not looked at yet.
    pub(in crate::machine) fn needs(
        &mut self,
        peer: PeerId,
        header: &Header,
        content: &Content,
    ) -> Needs {
        let id = content.id;
        let mut needs = Needs::default();
        let is_client = self.is_client(peer);
        let Some(entry) = self.values.get(&id) else { return needs };
        let index = entry.index();
        let is_deleted = index.is_some_and(Index::is_deleted);
        // Runs that will be passed over need nothing.
        let is_new = |run: &&SessionContent| {
            let verified = index.map_or(0, |index| index.verified().get(&run.session));
            // Content that a client repeats is compared, which needs its signer.
            let is_compared = is_client && run.after < verified && !run.transactions.is_empty();
            (run.end() > verified || is_compared) && (!is_deleted || run.session.is_delete())
        };
        // The accounts that sign have to be in memory. The others only had to be there when
        // content with that dependency was taken before.
        let signers: FxHashSet<CoValueId> = content
            .sessions
            .iter()
            .filter(is_new)
            .filter_map(|run| run.session.account())
            .collect();
        // The group that judges a deletion has to be in memory too.
        let deletes = content.sessions.iter().any(|run| run.session.is_delete());
        let judge = match header.ruleset() {
            Ruleset::OwnedByGroup { group } if deletes => Some(*group),
            _ => None,
        };
        let may_be_circle = !entry.dependants().is_empty();
        let mut steps = MAX_CIRCLE_STEPS;
        dependencies::visit_of_content(id, header, content, |dependency| {
            if needs.missing.len() >= needs.here.len().max(DEPENDENCIES_AT_ONCE) {
                return ControlFlow::Break(());
            }
            let signs = signers.contains(&dependency);
            if !signs && judge != Some(dependency) {
                let entry = self.values.get(&id);
                let has_it = |entry: &Entry| entry.dependencies().contains(dependency);
                if is_deleted || entry.is_some_and(has_it) {
                    return ControlFlow::Continue(());
                }
            }
            if self.entry(dependency).index().is_some() {
                needs.here.push(dependency);
                return ControlFlow::Continue(());
            }
            // CoValues that depend on each other do not wait for each other; but content always
            // waits for the account that signs it.
            let is_circle = may_be_circle && self.waits_for(dependency, id, &mut steps);
            if signs || !is_circle {
                needs.missing.push(dependency);
            }
            if signs && is_circle {
                needs.circles.push(dependency);
            }
            ControlFlow::Continue(())
        });
        needs
    }

    /// Whether held content of a CoValue waits for another one, directly or through others.
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
            for queue in entry.held.iter() {
                let Some(left) = steps.checked_sub(1 + queue.missing_count()) else { return false };
                *steps = left;
                open.extend(queue.missing());
            }
        }
        false
    }

    /// Keeps content until its dependencies are here, or its time is over.
    pub(in crate::machine) fn hold(&mut self, pending: PendingContent, needs: &Needs) {
        self.keep(pending, needs, None);
    }

    /// Keeps content that was refused for the dependencies that are here, until there is more of
    /// those, or its time is over.
    pub(in crate::machine) fn hold_refused(
        &mut self,
        pending: PendingContent,
        needs: &Needs,
        rejection: Rejection,
    ) {
        self.keep(pending, needs, Some(rejection));
    }

    fn keep(&mut self, mut pending: PendingContent, needs: &Needs, refused: Option<Rejection>) {
        let (peer, id) = (pending.peer(), pending.id());
        let bytes = content_credit(&pending.content);
        // The peer gets its credit back, because it has to be able to send the dependencies.
        self.release(pending.credit.take());
        let awaited = needs.here.len() + needs.missing.len();
        if !self.has_room_to_hold(peer, bytes, awaited) {
            self.ask_upstream_again(peer, id);
            return self.report(Report::new(peer, id, Rejection::HeldTooMuch));
        }
        match self.peers.get_mut(&peer) {
            Some(state) => state.held.add(id, bytes, awaited),
            None => self.left_bytes += held_cost(bytes, awaited),
        }
        let is_first = !pending.was_held();
        let is_refused = refused.is_some();
        let until = *pending.deadline.get_or_insert(self.now + self.config.hold_time);
        let held = Held { pending, bytes, refused };
        let entry = self.entry(id);
        entry.held.queue_of(peer).push(held, needs);
        if entry.held.set_timer(until) {
            self.timers.set(Timer::HeldContent, id, until);
        }
        for dependency in needs.here.iter().chain(&needs.missing).copied() {
            let entry = self.entry(dependency);
            let is_new = entry.add_dependant(id, peer, is_refused);
            let (is_absent, is_asking) =
                (entry.presence().is_absent(), entry.presence().is_asking());
            if is_new && (is_absent || is_asking) {
                self.ask_sender(peer, dependency, is_absent);
            }
        }
        if is_first {
            // Two CoValues that wait for each other find that out when they are looked at again.
            for &circle in &needs.circles {
                let Some(entry) = self.values.get(&circle) else { continue };
                self.retries.extend(entry.held.peers().map(|peer| (circle, peer)));
            }
        }
    }

    /// Whether so much more content, with so many dependencies, may be held for a peer.
    fn has_room_to_hold(&self, peer: PeerId, bytes: u64, awaited: usize) -> bool {
        let bound = self.config.held_bytes_per_peer;
        match self.peers.get(&peer) {
            Some(state) => {
                state.held.bytes().saturating_add(bytes) <= bound
                    && state.held.awaited() + awaited <= self.config.dependencies_per_peer
            }
            None => self.left_bytes.saturating_add(held_cost(bytes, awaited)) <= bound,
        }
    }

    /// Held content that was refused waits for another CoValue that is here, or may be.
    pub(in crate::machine) fn also_await(&mut self, peer: PeerId, id: CoValueId, other: CoValueId) {
        if self.entry(other).add_dependant(id, peer, true) {
            self.entry(id).held.queue_of(peer).also_await(other);
            match self.peers.get_mut(&peer) {
                Some(state) => state.held.add(id, 0, 1),
                None => self.left_bytes += held_cost(0, 1),
            }
        }
    }

    /// Storage does not have a dependency: asks the peers that sent its dependants.
    pub(in crate::machine) fn ask_for_dependency(&mut self, dependency: CoValueId) {
        let Some(entry) = self.values.get(&dependency) else { return };
        let peers: BTreeSet<PeerId> = entry.dependants().iter().map(|(_, peer)| *peer).collect();
        for peer in peers {
            self.ask_sender(peer, dependency, false);
        }
    }

    /// Asks the peer that sent a dependant. An upstream that was asked before is asked again only
    /// if it has sent something since that needs the dependency (`again`).
    pub(in crate::machine) fn ask_sender(
        &mut self,
        peer: PeerId,
        dependency: CoValueId,
        again: bool,
    ) {
        let is_client = self.is_client(peer);
        let now = self.now;
        let Some(subscription) = self.track(peer, dependency) else { return };
        if subscription.is_asked() && (is_client || !again) {
            return;
        }
        subscription.ask(now);
        self.enqueue(peer, dependency);
    }

    /// A CoValue is here now: looks again at the content that waited for nothing else.
    pub(in crate::machine) fn release_dependants(&mut self, id: CoValueId) {
        if self.has_bug(InjectedBug::ForgetHeld) {
            return;
        }
        let Some(entry) = self.values.get(&id) else { return };
        let dependants: Vec<_> = entry.dependants().iter().copied().collect();
        for (dependant, peer) in dependants {
            let entry = self.values.get_mut(&dependant);
            if entry.is_some_and(|entry| entry.held.found(peer, id)) {
                self.retries.push_back((dependant, peer));
            }
        }
    }

    /// Takes a queue out, with all references to it.
    pub(in crate::machine) fn take_held(
        &mut self,
        peer: PeerId,
        id: CoValueId,
    ) -> Option<HeldQueue> {
        let queue = self.values.get_mut(&id)?.held.remove(peer)?;
        for dependency in queue.awaited() {
            if let Some(entry) = self.values.get_mut(dependency) {
                entry.remove_dependant(id, peer);
            }
        }
        let (bytes, awaited) = (queue.bytes(), queue.awaited().len());
        match self.peers.get_mut(&peer) {
            Some(state) => state.held.remove(id, bytes, awaited),
            None => self.left_bytes = self.left_bytes.saturating_sub(held_cost(bytes, awaited)),
        }
        Some(queue)
    }

    /// Keeps the held content of a peer that has disconnected, because its dependencies may still
    /// arrive. All such content together is bounded like that of one peer.
    pub(in crate::machine) fn keep_held_of(&mut self, peer: PeerId, held: &HeldShare) {
        self.left_bytes += held_cost(held.bytes(), held.awaited());
        if self.left_bytes <= self.config.held_bytes_per_peer {
            return;
        }
        for id in held.ids() {
            if self.take_held(peer, id).is_some() {
                self.report(Report::new(peer, id, Rejection::HeldTooMuch));
            }
        }
    }
}

/// The memory for held content with its dependencies.
fn held_cost(bytes: u64, awaited: usize) -> u64 {
    bytes + awaited as u64 * AWAITED_BYTES
}
