//! LOADs to upstreams: a bounded number of them is in flight, and the others wait.

use downbeat_protocol::CoValueId;

use crate::event::{PeerId, UpstreamName};
use crate::machine::Machine;
use crate::state::peer::Peer;
use crate::state::presence::Change;
use crate::state::timers::Timer;
use crate::state::upstream_link::UpstreamLink;

impl Machine {
    /// The connection to an upstream.
    pub(super) fn link_mut(&mut self, peer: PeerId) -> Option<&mut UpstreamLink> {
        self.peers.get_mut(&peer)?.upstream_mut()
    }

    pub(super) fn upstream_name(&self, peer: PeerId) -> Option<UpstreamName> {
        self.peers.get(&peer).and_then(Peer::upstream_name).cloned()
    }

    /// Whether a LOAD to an upstream is in flight.
    pub(super) fn is_requested(&self, peer: PeerId, id: CoValueId) -> bool {
        let link = self.peers.get(&peer).and_then(Peer::upstream);
        link.is_some_and(|link| link.requests.is_in_flight(id))
    }

    /// Sends an upstream a LOAD: now if it is urgent, and when few enough are in flight otherwise.
    pub(super) fn request(&mut self, peer: PeerId, id: CoValueId, is_urgent: bool) {
        let limit = self.config.loads_per_upstream;
        let deadline = self.now + self.config.load_time;
        let now = self.now;
        let Some(subscription) = self.track(peer, id) else { return };
        subscription.mark_asked();
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let subscriptions = state.subscription_count();
        let Some(link) = state.upstream_mut() else { return };
        if !is_urgent && link.requests.in_flight() >= limit {
            return self.defer_request(peer, id, subscriptions);
        }
        link.requests.send(id, deadline);
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.ask(now);
        }
        self.timers.set(Timer::UpstreamAnswer, id, deadline);
        self.change_presence(id, Change::MoreTime { until: deadline });
        self.enqueue(peer, id);
    }

    /// Puts a LOAD aside until fewer are in flight.
    fn defer_request(&mut self, peer: PeerId, id: CoValueId, subscriptions: usize) {
        let Some(mut requests) = self.link_mut(peer).map(|link| std::mem::take(&mut link.requests))
        else {
            return;
        };
        let is_needed = |id| self.subscription(peer, id).is_some();
        requests.defer(id, subscriptions, is_needed);
        if let Some(link) = self.link_mut(peer) {
            link.requests = requests;
        }
    }

    /// An upstream has answered a LOAD, or will not: the next may go.
    pub(super) fn request_done(&mut self, peer: PeerId, id: CoValueId) {
        if let Some(link) = self.link_mut(peer) {
            link.requests.finish(id);
            self.next_requests(peer);
        }
    }

    /// Sends the LOADs that there is room for. When none is left, the next page of CoValues that
    /// the upstream has not acknowledged is listed.
    pub(super) fn next_requests(&mut self, peer: PeerId) {
        let limit = self.config.loads_per_upstream;
        while let Some(link) = self.link_mut(peer)
            && link.requests.in_flight() < limit
        {
            let Some(id) = link.requests.next() else { return self.next_unsynced_page(peer) };
            if self.subscription(peer, id).is_some() && !self.is_requested(peer, id) {
                self.request(peer, id, false);
            }
        }
    }
}
