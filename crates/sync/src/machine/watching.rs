//! CoValues that upstreams are subscribed to: those that clients watch, and those in memory.

use downbeat_protocol::CoValueId;

use crate::event::{PeerId, UpstreamName};
use crate::machine::Machine;
use crate::state::subscription::Subscription;
use crate::state::unsynced::UnsyncedNotes;

impl Machine {
    /// The CoValues that clients watch and an upstream is asked for.
    pub(in crate::machine) fn watched_by_clients(&self, name: &UpstreamName) -> Vec<CoValueId> {
        self.values
            .subscribed()
            .filter(|id| self.selected(*id).contains(name))
            .filter(|id| self.is_watched(*id))
            .collect()
    }

    /// Whether a client is subscribed to a CoValue.
    pub(in crate::machine) fn is_watched(&self, id: CoValueId) -> bool {
        self.values.subscribers(id).iter().any(|peer| self.is_client(*peer))
    }

    /// Subscribes the upstreams to a CoValue with a LOAD, which also makes them ask for the content
    /// that they lack.
    pub(in crate::machine) fn watch_upstreams(&mut self, id: CoValueId) {
        for (_, peer) in self.selected_peers(id) {
            if let Some(peer) = peer
                && !self.subscription(peer, id).is_some_and(Subscription::is_asked)
            {
                self.request(peer, id, false);
            }
        }
    }

    /// A CoValue was forgotten, or the last client that watched a forgotten one has left: drops the
    /// upstreams' subscriptions to it, except for those that are not fully synced. A client that
    /// asks for it makes a new one. So an upstream has no more subscriptions than for as many
    /// CoValues as may be warm, those that are, and those that clients watch.
    ///
    /// `is_absent` is whether the CoValue was absent. Then no answer of upstreams is waited for.
    pub(in crate::machine) fn unwatch_upstreams(&mut self, id: CoValueId, is_absent: bool) {
        let is_watched = self.is_watched(id);
        let bound = UnsyncedNotes::bound(self.config.warm_co_values);
        let has_too_many_notes = self.unsynced.len() > bound;
        let names: Vec<UpstreamName> = self.upstreams.names().cloned().collect();
        let mut unwatched = Vec::new();
        for name in names {
            if has_too_many_notes && self.unsynced.remove(id, &name) {
                self.upstreams.mark_unlisted(&name);
            }
            match self.upstreams.peer(&name) {
                None => {
                    if !is_watched {
                        self.upstreams.forget_left(&name, id);
                    }
                    self.unsynced.remove(id, &name);
                }
                Some(peer) if !is_watched && !self.is_still_needed(peer, &name, id, is_absent) => {
                    unwatched.push(peer);
                }
                Some(_) => {}
            }
        }
        for peer in unwatched {
            if let Some(key) = self.values.key(id)
                && let Some(state) = self.peers.get_mut(&peer)
            {
                state.unsubscribe(key);
            }
            self.values.unsubscribe(id, peer);
            self.request_done(peer, id);
        }
    }

    /// Whether an upstream's subscription to a forgotten CoValue has to be kept.
    fn is_still_needed(
        &self,
        peer: PeerId,
        name: &UpstreamName,
        id: CoValueId,
        is_absent: bool,
    ) -> bool {
        let Some(state) = self.peers.get(&peer) else { return true };
        state.subscription_count() <= self.config.warm_co_values
            || self.unsynced.contains(id, name)
            || !is_absent && self.is_requested(peer, id)
            || self.subscription(peer, id).is_none_or(Subscription::is_queued)
    }
}
