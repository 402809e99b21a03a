//! Upstreams that are asked for a CoValue that storage does not have, and their answers.

use downbeat_protocol::{CoValueId, Content};

use crate::event::{Millis, PeerId, UpstreamName};
use crate::machine::Machine;
use crate::state::entry::Entry;
use crate::state::presence::{Asked, Change, Presence};
use crate::state::timers::Timer;

impl Machine {
    /// Whether an upstream that may have a CoValue is not connected.
    pub fn is_upstream_away(&self, id: CoValueId) -> bool {
        self.selected_peers(id).iter().any(|(_, peer)| peer.is_none())
    }

    /// The upstreams that a CoValue is synced with, each with its connection if it has one.
    pub(super) fn selected_peers(&self, id: CoValueId) -> Vec<(UpstreamName, Option<PeerId>)> {
        if self.upstreams.is_empty() {
            return Vec::new();
        }
        let peer = |name: &UpstreamName| self.upstreams.peer(name);
        self.selected(id).into_iter().map(|name| (name.clone(), peer(&name))).collect()
    }

    /// The upstreams that a CoValue is synced with.
    pub(super) fn selected(&self, id: CoValueId) -> Vec<UpstreamName> {
        self.upstreams.selected(id, self.config.upstreams_per_co_value)
    }

    /// Storage does not have a CoValue: asks the upstreams. Returns `false` if there is none to
    /// ask.
    pub(super) fn ask_upstreams(&mut self, id: CoValueId, asker: Option<PeerId>) -> bool {
        let mut selected = self.selected_peers(id);
        // An upstream that is away is asked when it is back, for the clients that are subscribed
        // then.
        let mut until = self.now + self.config.load_time;
        if selected.iter().all(|(_, peer)| peer.is_none()) {
            let connects_until = |name: &UpstreamName| self.upstreams.connects_until(name);
            selected.retain(|(name, _)| connects_until(name) > self.now);
            until = selected.iter().map(|(name, _)| connects_until(name)).max().unwrap_or(0);
        } else {
            selected.retain(|(_, peer)| {
                peer.is_some_and(|peer| {
                    !self.asks_alone(peer, id, asker) && !self.lacks_it(peer, id)
                })
            });
        }
        if selected.is_empty() {
            return false;
        }
        let pending = selected.iter().map(|(name, _)| name.clone()).collect();
        self.timers.set(Timer::UpstreamAnswer, id, until);
        self.entry(id).change(Change::Asked(Asked { pending, until }));
        for (_, peer) in selected {
            if let Some(peer) = peer
                && !self.is_requested(peer, id)
            {
                self.request(peer, id, true);
            }
        }
        true
    }

    /// Whether an upstream was asked for a CoValue recently and did not have it. It sends the
    /// CoValue when it gets it, and is not asked again: where nodes are each other's upstreams,
    /// LOADs for a CoValue that does not exist would go round for ever.
    fn lacks_it(&self, peer: PeerId, id: CoValueId) -> bool {
        let needs_it = |entry: &Entry| entry.dependants().iter().any(|(_, other)| *other == peer);
        self.subscription(peer, id).is_some_and(|subscription| {
            subscription.is_asked_recently(self.now) && !subscription.known().header
        }) && !self.is_requested(peer, id)
            && !self.values.get(&id).is_some_and(needs_it)
    }

    /// Whether a peer is the only one that needs to know if a CoValue is here.
    fn asks_alone(&self, peer: PeerId, id: CoValueId, asker: Option<PeerId>) -> bool {
        let Some(entry) = self.values.get(&id) else { return asker == Some(peer) };
        let mut askers = entry.waiting.iter().map(|(other, _)| *other).chain(asker).peekable();
        askers.peek().is_some()
            && askers.all(|other| other == peer)
            && entry.dependants().is_empty()
    }

    /// Whether an upstream has to be asked for a CoValue as soon as it connects: it has not
    /// answered, or content has been waiting for the CoValue while it was away.
    pub(super) fn is_needed_from(&self, id: CoValueId, name: &UpstreamName) -> bool {
        let Some(entry) = self.values.get(&id) else { return false };
        match entry.presence() {
            Presence::Asking(asked) => asked.pending.contains(name),
            Presence::Absent => {
                (!entry.dependants().is_empty() || !entry.held.is_empty())
                    && self.selected(id).contains(name)
            }
            Presence::Loading | Presence::Unknown(_) | Presence::Here(_) => false,
        }
    }

    /// A peer has left: upstreams' answers that only it has waited for are no longer waited for. If
    /// the CoValue comes after all, it is taken.
    pub(super) fn stop_asking_if_unneeded(&mut self, id: CoValueId) {
        let Some(entry) = self.values.get(&id) else { return };
        if !entry.presence().is_asking() {
            return;
        }
        // An upstream that waits for the CoValue only waits to be sent it.
        let needs_it =
            |(peer, served): &(PeerId, CoValueId)| *served != id || self.is_client(*peer);
        let is_needed = entry.waiting.iter().any(needs_it);
        if !is_needed && entry.dependants().is_empty() && entry.held.is_empty() {
            self.change_presence(id, Change::NotNeeded);
            self.decided(id);
        }
    }

    /// An upstream states that it has something, or nothing, of a CoValue.
    pub(super) fn upstream_told(&mut self, peer: PeerId, id: CoValueId, has_it: bool) {
        let Some(name) = self.upstream_name(peer) else { return };
        self.request_done(peer, id);
        if !has_it {
            self.upstream_lacks(id, &name);
        }
        self.note_synced(peer, id);
    }

    /// An upstream has sent content that does not count as an answer.
    pub(super) fn upstream_refused(&mut self, peer: PeerId, id: CoValueId) {
        if let Some(name) = self.upstream_name(peer) {
            self.upstream_lacks(id, &name);
        }
    }

    /// A peer has sent content. If it is an upstream, that answers a LOAD.
    pub(super) fn upstream_answered(&mut self, peer: PeerId, content: &Content) {
        if !self.is_requested(peer, content.id) {
            return;
        }
        if content.expect_content_until.is_some() {
            // The first of several pieces; the others have as much time again.
            self.give_more_time(peer, content.id, self.now + self.config.load_time);
        } else {
            self.request_done(peer, content.id);
        }
    }

    fn give_more_time(&mut self, peer: PeerId, id: CoValueId, until: Millis) {
        if let Some(link) = self.link_mut(peer) {
            link.requests.extend(id, until);
        }
        self.timers.set(Timer::UpstreamAnswer, id, until);
        self.change_presence(id, Change::MoreTime { until });
    }

    /// An upstream does not have a CoValue.
    pub(super) fn upstream_lacks(&mut self, id: CoValueId, name: &UpstreamName) {
        if self.change_presence(id, Change::UpstreamLacks(name)) {
            self.decided(id);
        }
    }

    /// Upstreams that have not answered in time count as not having the CoValue.
    pub(super) fn give_up_requests(&mut self, id: CoValueId) {
        let now = self.now;
        let is_late = |peer: &PeerId| {
            let link = self.peers.get(peer).and_then(|state| state.upstream());
            link.is_some_and(|link| link.requests.is_late(id, now))
        };
        let late: Vec<PeerId> = self.upstreams.peers().filter(is_late).collect();
        let is_forgotten = !late.is_empty() && !self.values.contains_key(&id);
        for peer in late {
            self.request_done(peer, id);
        }
        if is_forgotten {
            self.unwatch_upstreams(id, false);
        }
        if self.change_presence(id, Change::Timeout { now }) {
            self.decided(id);
        }
    }
}
