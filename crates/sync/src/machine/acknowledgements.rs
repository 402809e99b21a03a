//! Acknowledgements and forwarding: which peers get a message when a CoValue has changed.

use downbeat_protocol::CoValueId;

use crate::credit::Credit;
use crate::event::PeerId;
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::state::subscription::PendingReplies;

impl Machine {
    /// Queues KNOWNs for the authors of content that was just stored, and for peers whose content
    /// is all durable now.
    pub(super) fn acknowledge(&mut self, id: CoValueId, stored: &[Credit]) {
        let forgets = self.has_bug(InjectedBug::ForgetAcknowledgement);
        let Some(index) = self.index_mut(id) else { return };
        if index.is_header_unstored() || index.is_outdated() || index.owes_no_acknowledgement() {
            return;
        }
        let mut due: Vec<PeerId> = stored.iter().map(Credit::peer).collect();
        index.take_acknowledged(&mut due);
        if forgets {
            index.take_awaiting_ack();
        }
        for peer in due {
            if let Some(subscription) = self.subscription_mut(peer, id) {
                subscription.replies.add(PendingReplies::KNOWN);
                self.enqueue(peer, id);
            }
        }
    }

    /// Queues a CoValue for every subscriber: each gets what it lacks.
    pub(super) fn forward(&mut self, id: CoValueId) {
        self.watch_upstreams(id);
        self.enqueue_subscribers(id, |_| true);
    }

    /// Some content of a CoValue has been verified or stored: looks again at the LOADs whose claims
    /// waited for it.
    pub(super) fn enqueue_claimants(&mut self, id: CoValueId) {
        let Some(index) = self.index_mut(id) else { return };
        for peer in index.take_claimants() {
            self.enqueue(peer, id);
        }
    }
}
