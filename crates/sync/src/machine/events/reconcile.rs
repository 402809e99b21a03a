//! Event `Received` with a reconcile message: a peer compares what it has in storage with what we
//! have.
//!
//! A client whose batch is acknowledged does not compare its CoValues again for weeks. So the
//! acknowledgement is sent when all content of them that the client has sent is durable.

use downbeat_protocol::Reconcile;

use crate::event::PeerId;
use crate::machine::Machine;

impl Machine {
    pub(in crate::machine) fn received_reconcile(&mut self, peer: PeerId, reconcile: Reconcile) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let open = reconcile.values.iter().map(|(id, _)| *id).collect();
        state.begin_batch(reconcile.id, open);
        for (id, hash) in reconcile.values {
            match self.track(peer, id) {
                // The peer need not be asked for content that is not accepted from it.
                Some(subscription) if subscription.standing().is_good() => {
                    subscription.add_comparison(hash);
                    self.serve(peer, id);
                }
                _ => self.reconciled(peer, id),
            }
        }
        self.make_ready(peer);
    }
}
