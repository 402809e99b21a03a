//! Event `Received` with a LOAD.

use downbeat_protocol::{CoValueId, KnownState};

use crate::event::PeerId;
use crate::machine::Machine;
use crate::state::presence::Presence;
use crate::state::subscription::PendingReplies;

impl Machine {
    pub(super) fn received_load(&mut self, peer: PeerId, state: KnownState) {
        let id = state.id;
        let is_older = self.is_sending(peer, id);
        let Some(subscription) = self.subscribe(peer, id) else { return };
        subscription.claim(state, is_older);
        let has_correction = subscription.replies.has(PendingReplies::CORRECTION);
        subscription.replies.add(PendingReplies::REPLY);
        if has_correction {
            // It need not wait for its time any longer.
            self.enqueue(peer, id);
        }
        if self.is_client(peer) {
            return self.serve_in_turn(peer, id);
        }
        if let Some(subscription) = self.subscription_mut(peer, id) {
            // The answer does what a LOAD would do.
            subscription.mark_asked();
        }
        self.serve(peer, id);
    }

    /// Serves a client's LOAD behind those before it that storage has not answered. A client that
    /// gets a CoValue before the group that owns it sends both in the wrong order.
    fn serve_in_turn(&mut self, peer: PeerId, id: CoValueId) {
        let is_loading = self.entry(id).presence().is_loading();
        let Some(key) = self.values.key(id) else { return };
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !is_loading && state.first_loading().is_none() {
            return self.serve(peer, id);
        }
        state.wait_in_turn(key, id);
        if is_loading {
            self.wait_for(peer, id);
        }
    }

    /// Serves the LOADs of a client that need not wait for others any longer.
    pub(super) fn serve_next(&mut self, peer: PeerId) {
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
    pub(super) fn serve(&mut self, peer: PeerId, id: CoValueId) {
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
    pub(super) fn wait_for(&mut self, peer: PeerId, id: CoValueId) {
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        if subscription.begin_waiting() {
            self.entry(id).waiting.push((peer, id));
        }
    }

    /// The answer to a LOAD is that the CoValue does not exist.
    pub(super) fn answer_not_found(&mut self, peer: PeerId, id: CoValueId) {
        if let Some(subscription) = self.subscription_mut(peer, id)
            && subscription.replies.take(PendingReplies::REPLY)
        {
            subscription.replies.add(PendingReplies::NOT_FOUND);
        }
    }
}
