//! LOADs to upstreams: a bounded number of them is in flight, and the others wait.

use downbeat_protocol::CoValueId;

use crate::event::PeerId;
use crate::machine::Machine;
use crate::state::presence::Change;
use crate::state::timers::Timer;

impl Machine {
    /// Sends an upstream a LOAD: now if it is urgent, and when few enough are in flight otherwise.
    pub(in crate::machine) fn request(&mut self, peer: PeerId, id: CoValueId, is_urgent: bool) {
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
    pub(in crate::machine) fn request_done(&mut self, peer: PeerId, id: CoValueId) {
        if let Some(link) = self.link_mut(peer) {
            link.requests.finish(id);
            self.next_requests(peer);
        }
    }

    /// Sends the LOADs that there is room for. When none is left, the next page of CoValues that
    /// the upstream has not acknowledged is listed.
    pub(in crate::machine) fn next_requests(&mut self, peer: PeerId) {
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

    /// An upstream's content was lost here: it is asked again when a peer needs the CoValue.
    pub(in crate::machine) fn ask_upstream_again(&mut self, peer: PeerId, id: CoValueId) {
        if self.is_upstream(peer)
            && let Some(subscription) = self.subscription_mut(peer, id)
        {
            subscription.forget_request();
        }
    }

    /// A client has sent something of a CoValue, and can be asked for it again.
    pub(in crate::machine) fn client_answered(&mut self, peer: PeerId, id: CoValueId) {
        if self.is_client(peer)
            && let Some(subscription) = self.subscription_mut(peer, id)
        {
            subscription.forget_request();
        }
    }
}
