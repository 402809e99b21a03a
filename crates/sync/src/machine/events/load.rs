//! Event `Received` with a LOAD.

use downbeat_protocol::{CoValueId, KnownState};

use crate::event::PeerId;
use crate::machine::Machine;
use crate::state::subscription::PendingReplies;

impl Machine {
    pub(in crate::machine) fn received_load(&mut self, peer: PeerId, mut state: KnownState) {
        let id = state.id;
        self.rebase(peer, &mut state);
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
}
