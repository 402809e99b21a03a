//! Event `Listed`: everything in storage is compared with an upstream, batch by batch.

use downbeat_protocol::{CoValueId, Reconcile, ShortHash, UpstreamName};

use crate::event::PeerId;
use crate::machine::Machine;
use crate::state::upstream_link::Pages;
use crate::state::upstreams::StoredComparison;

impl Machine {
    pub(in crate::machine) fn listed_stored(
        &mut self,
        name: &UpstreamName,
        mut values: Vec<(CoValueId, ShortHash)>,
    ) {
        let last = values.last().map(|(id, _)| *id);
        values.retain(|(id, _)| self.selected(*id).contains(name));
        let Some(peer) = self.upstreams.peer(name) else { return };
        let Some(link) = self.link_mut(peer) else { return };
        let Some(last) = last else {
            link.stored_pages = Pages::Done;
            return self.upstreams.set_comparison(name, StoredComparison::Done);
        };
        link.stored_pages = Pages::Next(last);
        if values.is_empty() {
            return self.next_stored_page(peer);
        }
        let id = self.upstreams.next_batch(name);
        if let Some(link) = self.link_mut(peer) {
            link.begin_batch(Reconcile { id, values });
        }
        self.peers.make_ready(peer);
    }

    /// An upstream is up to date with a batch.
    pub(in crate::machine) fn reconcile_acknowledged(&mut self, peer: PeerId, batch: &str) {
        if self.link_mut(peer).is_some_and(|link| link.finish_batch(batch)) {
            self.next_stored_page(peer);
        }
    }
}
