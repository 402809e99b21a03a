//! Events `Connected` and `Disconnected`.

use downbeat_protocol::{CoValueId, UpstreamName};
use rustc_hash::FxHashMap;

use crate::event::{Millis, PeerId, PeerRole};
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::state::subscription::Subscription;
use crate::state::upstreams::{Reconnected, StoredComparison};

/// How long a new upstream counts as connecting, in milliseconds. Until then the machine waits for
/// it: when a server starts, its clients are often back before its own upstream is.
const CONNECT_TIME: Millis = 2_000;

impl Machine {
    /// Makes an upstream known before it is connected. The machine waits for it during the next
    /// two seconds.
    pub fn add_upstream(&mut self, name: UpstreamName) {
        self.upstreams.add(name, self.now + CONNECT_TIME);
    }

    pub(in crate::machine) fn connected(&mut self, peer: PeerId, role: PeerRole) {
        self.peers.insert(peer);
        if let PeerRole::Upstream(name) = role {
            self.upstream_connected(peer, &name);
        }
    }

    fn upstream_connected(&mut self, peer: PeerId, name: &UpstreamName) {
        let Reconnected { left, comparison } = self.upstreams.connect(name, peer);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.become_upstream(name.clone());
        self.list_unsynced(peer, None);
        if self.config.full_storage_reconciliation
            && let StoredComparison::From(after) = comparison
        {
            self.list_stored(peer, after);
        }
        let mut ids: Vec<CoValueId> = left.keys().copied().collect();
        ids.extend(self.watched_by_clients(name));
        let is_needed = |id: &CoValueId| self.is_needed_from(*id, name);
        ids.extend(self.values.iter().map(|(id, _)| id).filter(is_needed));
        ids.sort_unstable();
        ids.dedup();
        for (id, subscription) in left {
            if let Some(kept) = self.track(peer, id) {
                kept.resume(&subscription);
            }
        }
        if self.has_bug(InjectedBug::AskNoUpstreamAgain) {
            ids.clear();
        }
        for id in ids {
            let is_urgent = self.is_needed_from(id, name);
            self.request(peer, id, is_urgent);
        }
    }

    pub(in crate::machine) fn disconnected(&mut self, peer: PeerId) {
        let Some(state) = self.peers.remove(peer) else { return };
        let (upstream, subscriptions, held) = state.into_parts();
        let Some(upstream) = upstream else {
            self.backlog.leave(peer, subscriptions.into_keys().collect());
            self.remove_left();
            return self.keep_held_of(peer, &held);
        };
        let mut left = FxHashMap::default();
        for (key, subscription) in subscriptions {
            let id = self.values.id(key);
            self.values.unsubscribe(id, peer);
            self.stop_asking_if_unneeded(id);
            left.insert(id, subscription);
        }
        self.keep_held_of(peer, &held);
        self.upstream_disconnected(upstream.name(), peer, left);
    }

    /// `left` is its part in each CoValue.
    fn upstream_disconnected(
        &mut self,
        name: &UpstreamName,
        peer: PeerId,
        mut left: FxHashMap<CoValueId, Subscription>,
    ) {
        for id in left.keys() {
            if let Some(index) = self.index_mut(*id) {
                index.expect_nothing_from(peer);
            }
        }
        if !self.upstreams.disconnect(name, peer) {
            return;
        }
        // It will not answer. When it is back, it is asked for the CoValues that clients watch.
        let mut asked: Vec<CoValueId> = left.keys().copied().collect();
        asked.sort_unstable();
        for id in asked {
            self.upstream_lacks(id, name);
        }
        left.retain(|id, _| self.values.contains_key(id) || self.is_watched(*id));
        self.upstreams.keep_left(name, left);
        let values = &self.values;
        self.unsynced.retain(name, |id| values.contains_key(&id));
    }
}
