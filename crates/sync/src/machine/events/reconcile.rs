//! Event `Received` with a reconcile message: a peer compares what it has in storage with what we
//! have.
//!
//! A client whose batch is acknowledged does not compare its CoValues again for weeks. So the
//! acknowledgement is sent when all content of them that the client has sent is durable.
//!
//! The CoValues are compared in portions (`crate::machine::backlog`), because each is a look-up.

use downbeat_protocol::Reconcile;

use crate::event::PeerId;
use crate::machine::Machine;

impl Machine {
    pub(in crate::machine) fn received_reconcile(&mut self, peer: PeerId, reconcile: Reconcile) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.batches.begin(reconcile);
        self.queue_comparisons(peer);
        self.peers.make_ready(peer);
    }
}
