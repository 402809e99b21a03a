//! Event `Received` with a KNOWN.

use downbeat_protocol::Known;

use crate::event::PeerId;
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::state::subscription::PendingReplies;

impl Machine {
    /// `is_new` is whether the peer has no subscription yet.
    pub(in crate::machine) fn received_known(&mut self, peer: PeerId, known: Known, is_new: bool) {
        let Known { state, is_correction, .. } = known;
        let id = state.id;
        let has_it = state.header;
        if is_new && self.is_upstream(peer) && !has_it && !is_correction {
            // The answer to a LOAD that is no longer needed.
            return self.upstream_told(peer, id, false);
        }
        let replaces = self.has_bug(InjectedBug::KnownReplaces);
        let is_agreed = !self.values.contains_key(&id) && self.is_agreed(peer, &state);
        let Some(subscription) = self.subscribe(peer, id) else { return };
        subscription.set_older(false);
        if is_correction || replaces {
            subscription.replace(state);
        } else if is_agreed {
            subscription.confirm();
        } else {
            subscription.confirm_state(state);
        }
        subscription.replies.add(PendingReplies::FIRST);
        self.client_answered(peer, id);
        let is_compared = self.compared(peer, id);
        self.answered_for_group(peer, id);
        let is_awaited = self.is_awaited_from_upstream(peer, id);
        self.upstream_told(peer, id, has_it);
        // A forgotten CoValue needs no look-up for a peer that only acknowledges it.
        let matters = is_new || is_correction || is_awaited || is_compared;
        if matters || self.values.contains_key(&id) {
            self.serve(peer, id);
        }
    }
}
