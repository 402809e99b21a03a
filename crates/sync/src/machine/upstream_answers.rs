//! The answers of upstreams, and their absence.

use downbeat_protocol::{CoValueId, Content};

use crate::event::{Millis, PeerId, UpstreamName};
use crate::machine::Machine;
use crate::state::presence::Change;
use crate::state::timers::Timer;

impl Machine {
    /// A peer has left: upstreams' answers that only it has waited for are no longer waited for. If
    /// the CoValue comes after all, it is taken.
    pub(in crate::machine) fn stop_asking_if_unneeded(&mut self, id: CoValueId) {
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
    pub(in crate::machine) fn upstream_told(&mut self, peer: PeerId, id: CoValueId, has_it: bool) {
        let Some(name) = self.upstream_name(peer) else { return };
        self.request_done(peer, id);
        if !has_it {
            self.upstream_lacks(id, &name);
        }
        self.note_synced(peer, id);
    }

    /// An upstream has sent content that does not count as an answer.
    pub(in crate::machine) fn upstream_refused(&mut self, peer: PeerId, id: CoValueId) {
        if let Some(name) = self.upstream_name(peer) {
            self.upstream_lacks(id, &name);
        }
    }

    /// A peer has sent content. If it is an upstream, that answers a LOAD.
    pub(in crate::machine) fn upstream_answered(&mut self, peer: PeerId, content: &Content) {
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

    pub(in crate::machine) fn give_more_time(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        until: Millis,
    ) {
        if let Some(link) = self.link_mut(peer) {
            link.requests.extend(id, until);
        }
        self.timers.set(Timer::UpstreamAnswer, id, until);
        self.change_presence(id, Change::MoreTime { until });
    }

    /// An upstream does not have a CoValue.
    pub(in crate::machine) fn upstream_lacks(&mut self, id: CoValueId, name: &UpstreamName) {
        if self.change_presence(id, Change::UpstreamLacks(name)) {
            self.decided(id);
        }
    }

    /// Upstreams that have not answered in time count as not having the CoValue.
    pub(in crate::machine) fn give_up_requests(&mut self, id: CoValueId) {
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
