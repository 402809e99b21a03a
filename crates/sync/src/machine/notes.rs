//! The notes of CoValues that an upstream has not acknowledged.

use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, KnownState, UpstreamName};

use crate::action::Action;
use crate::event::PeerId;
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::state::peer::Peer;
use crate::state::presence::Presence;
use crate::state::unsynced::UnsyncedNotes;
use crate::state::upstream_link::Pages;

impl Machine {
    /// Whether every upstream that a CoValue is synced with has stated that it has this much of
    /// it, on its present connection or the last one. Without upstreams, this is so.
    pub fn is_synced(&self, state: &KnownState) -> bool {
        self.selected(state.id).iter().all(|name| {
            let subscription = match self.upstreams.peer(name) {
                Some(peer) => self.subscription(peer, state.id),
                None => self.upstreams.left(name, state.id),
            };
            subscription.is_some_and(|subscription| {
                let known = subscription.known();
                known.header && known_state::is_subset(&state.sessions, known.sessions)
            })
        })
    }

    /// There is content that upstreams may lack: notes that they do, before it is stored.
    pub(in crate::machine) fn note_unsynced(&mut self, id: CoValueId) {
        if self.has_bug(InjectedBug::ForgetUnsynced) {
            return;
        }
        for (name, peer) in self.selected_peers(id) {
            let is_synced = peer.is_some_and(|peer| self.has_everything(peer, id));
            if !is_synced && !self.unsynced.contains(id, &name) {
                self.unsynced.insert(id, &name);
                self.actions.push(Action::Track { id, upstream: name, synced: false });
            }
        }
    }

    /// Removes the note that a peer has not acknowledged a CoValue, if it has, or if there is
    /// nothing to acknowledge.
    pub(in crate::machine) fn note_synced(&mut self, peer: PeerId, id: CoValueId) {
        if self.unsynced.is_empty_for(id) {
            return;
        }
        let Some(name) = self.upstream_name(peer) else { return };
        let is_absent = self.presence(id).is_some_and(Presence::is_absent);
        if !is_absent && !self.has_everything(peer, id) || !self.unsynced.remove(id, &name) {
            return;
        }
        self.actions.push(Action::Track { id, upstream: name.clone(), synced: true });
        self.list_unlisted(peer, &name);
    }

    /// Lists the notes that are not in memory, once there is room for some.
    pub(in crate::machine) fn list_unlisted(&mut self, peer: PeerId, name: &UpstreamName) {
        let bound = UnsyncedNotes::bound(self.config.warm_co_values);
        let pages = self.link_mut(peer).map(|link| link.unsynced_pages);
        if self.unsynced.len() <= bound / 2
            && self.upstreams.has_unlisted_notes(name)
            && matches!(pages, Some(Pages::Done))
        {
            self.upstreams.clear_unlisted(name);
            self.list_unsynced(peer, None);
        }
    }

    /// Whether an upstream's statement about a CoValue matters even if the CoValue is not in
    /// memory.
    pub(in crate::machine) fn is_awaited_from_upstream(&self, peer: PeerId, id: CoValueId) -> bool {
        let name = self.peers.get(&peer).and_then(Peer::upstream_name);
        name.is_some_and(|name| self.unsynced.contains(id, name) || self.is_requested(peer, id))
    }

    /// Whether a peer has acknowledged all of a CoValue that is here.
    pub(in crate::machine) fn has_everything(&self, peer: PeerId, id: CoValueId) -> bool {
        let Some(index) = self.index(id) else { return false };
        self.subscription(peer, id).is_some_and(|subscription| {
            let known = subscription.known();
            known.header && !index.is_ahead_of(known.sessions)
        })
    }
}
