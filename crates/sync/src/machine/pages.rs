//! Pages of stored lists: CoValues that an upstream has not acknowledged, and everything in
//! storage.

use downbeat_protocol::CoValueId;

use crate::action::Action;
use crate::event::PeerId;
use crate::machine::Machine;
use crate::state::upstream_link::Pages;
use crate::state::upstreams::StoredComparison;

/// CoValues in one page of the list of those that an upstream has not acknowledged.
const UNSYNCED_PAGE: usize = 100;

/// CoValues in one reconcile message (reference: 100).
const RECONCILE_PAGE: usize = 100;

impl Machine {
    /// Lists the next CoValues that an upstream has not acknowledged.
    pub(in crate::machine) fn list_unsynced(&mut self, peer: PeerId, after: Option<CoValueId>) {
        let Some(link) = self.link_mut(peer) else { return };
        link.unsynced_pages = Pages::Asked;
        let upstream = link.name().clone();
        self.actions.push(Action::ListUnsynced { upstream, after, limit: UNSYNCED_PAGE });
    }

    pub(in crate::machine) fn next_unsynced_page(&mut self, peer: PeerId) {
        if let Some(Pages::Next(after)) = self.link_mut(peer).map(|link| link.unsynced_pages) {
            self.list_unsynced(peer, Some(after));
        }
    }

    /// Lists the next CoValues in storage, to compare them with an upstream.
    pub(in crate::machine) fn list_stored(&mut self, peer: PeerId, after: Option<CoValueId>) {
        let Some(link) = self.link_mut(peer) else { return };
        link.stored_pages = Pages::Asked;
        let upstream = link.name().clone();
        self.actions.push(Action::ListStored { upstream, after, limit: RECONCILE_PAGE });
    }

    pub(in crate::machine) fn next_stored_page(&mut self, peer: PeerId) {
        let Some(link) = self.link_mut(peer) else { return };
        let Pages::Next(after) = link.stored_pages else { return };
        let name = link.name().clone();
        self.upstreams.set_comparison(&name, StoredComparison::From(Some(after)));
        self.list_stored(peer, Some(after));
    }
}
