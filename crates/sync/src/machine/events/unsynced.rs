//! Event `Unsynced`: a page of the CoValues that an upstream has not acknowledged.

use downbeat_protocol::CoValueId;

use crate::event::UpstreamName;
use crate::machine::Machine;
use crate::state::subscription::Subscription;
use crate::state::upstream_link::Pages;

impl Machine {
    pub(in crate::machine) fn listed_unsynced(&mut self, name: &UpstreamName, ids: &[CoValueId]) {
        let Some(peer) = self.upstreams.peer(name) else { return };
        for id in ids {
            self.unsynced.insert(*id, name);
            let is_asked = self.subscription(peer, *id).is_some_and(Subscription::is_asked);
            if is_asked && self.has_everything(peer, *id) {
                self.note_synced(peer, *id);
            } else if !is_asked || !self.is_requested(peer, *id) {
                self.request(peer, *id, false);
            }
        }
        let Some(link) = self.link_mut(peer) else { return };
        link.unsynced_pages = ids.last().map_or(Pages::Done, |last| Pages::Next(*last));
        self.next_requests(peer);
    }
}
