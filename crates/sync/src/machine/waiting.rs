//! Peers that wait until it is known whether a CoValue is here.

use downbeat_protocol::CoValueId;

use crate::event::PeerId;
use crate::machine::Machine;
use crate::state::presence::Presence;
use crate::state::subscription::PendingReplies;

impl Machine {
    /// Serves the LOADs of a client that need not wait for others any longer.
    pub(in crate::machine) fn serve_next(&mut self, peer: PeerId) {
        while let Some(state) = self.peers.get_mut(&peer)
            && let Some(id) = state.first_loading()
        {
            if self.values.get(&id).is_some_and(|entry| entry.presence().is_loading()) {
                // It may have been forgotten, and be loading again.
                return self.wait_for(peer, id);
            }
            state.pop_loading();
            if let Some(subscription) = self.subscription_mut(peer, id) {
                subscription.set_in_turn(false);
                self.serve(peer, id);
            }
        }
    }

    /// Sends a peer what it lacks of a CoValue, once it is known whether it is here.
    pub(in crate::machine) fn serve(&mut self, peer: PeerId, id: CoValueId) {
        let is_absent = matches!(self.entry(id).presence(), Presence::Absent);
        let asks = self
            .subscription(peer, id)
            .is_some_and(|subscription| subscription.replies.has(PendingReplies::REPLY));
        if is_absent && !(asks && self.ask_upstreams(id, Some(peer))) {
            self.answer_not_found(peer, id);
            return self.enqueue(peer, id);
        }
        if self.entry(id).is_undecided() {
            self.wait_for(peer, id);
        } else {
            self.enqueue(peer, id);
            self.watch_upstreams(id);
        }
    }

    /// Serves a peer when it has become known whether a CoValue is here.
    pub(in crate::machine) fn wait_for(&mut self, peer: PeerId, id: CoValueId) {
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        if subscription.begin_waiting() {
            self.entry(id).waiting.push((peer, id));
        }
    }

    /// The answer to a LOAD is that the CoValue does not exist.
    pub(in crate::machine) fn answer_not_found(&mut self, peer: PeerId, id: CoValueId) {
        if let Some(subscription) = self.subscription_mut(peer, id)
            && subscription.replies.take(PendingReplies::REPLY)
        {
            subscription.replies.add(PendingReplies::NOT_FOUND);
        }
    }
}
