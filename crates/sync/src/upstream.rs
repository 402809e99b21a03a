//! Upstreams: servers that are asked for what we lack, and given what we have.

use std::collections::BTreeMap;

use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, Content, KnownState, Reconcile, ShortHash};
use md5::{Digest, Md5};
use rustc_hash::FxHashMap;

use crate::action::Action;
use crate::covalue::{Entry, Presence};
use crate::event::{PeerId, UpstreamName};
use crate::machine::Machine;
use crate::peer::{Pages, Peer, Subscription};

/// CoValues that are looked up at a time in the list of those that an upstream lacks.
const UNSYNCED_PAGE: usize = 100;

/// CoValues compared in one reconcile message (reference: 100).
const RECONCILE_PAGE: usize = 100;

/// The upstreams that there are, connected or not.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    by_name: BTreeMap<UpstreamName, Upstream>,
    /// CoValues with a note in storage that an upstream has not acknowledged all of them.
    tracked: FxHashMap<CoValueId, Vec<UpstreamName>>,
}

#[derive(Debug, Default)]
struct Upstream {
    /// The connection, while there is one.
    peer: Option<PeerId>,
    /// Between connections: what it was asked for, and had.
    left: FxHashMap<CoValueId, Subscription>,
    /// Batches sent so far, for their names.
    batches: u64,
    /// Whether everything in storage has been compared with it.
    reconciled: bool,
}

impl Machine {
    /// Makes an upstream known before it is connected, so that what it may have is waited for.
    pub fn add_upstream(&mut self, name: UpstreamName) {
        self.upstreams.by_name.entry(name).or_default();
    }

    /// Whether every upstream that a CoValue is synced with has said that it has this much of it,
    /// at its present connection or the last one. Where there is no upstream, that is so.
    pub fn is_synced(&self, state: &KnownState) -> bool {
        self.selected(state.id).iter().all(|name| {
            let Some(upstream) = self.upstreams.by_name.get(name) else { return false };
            let subscription = match upstream.peer {
                Some(peer) => self.subscription(peer, state.id),
                None => upstream.left.get(&state.id),
            };
            subscription.is_some_and(|subscription| {
                let known = subscription.known();
                known.header && known_state::is_subset(&state.sessions, &known.sessions)
            })
        })
    }

    pub(crate) fn upstream_connected(&mut self, peer: PeerId, name: &UpstreamName) {
        let upstream = self.upstreams.by_name.entry(name.clone()).or_default();
        upstream.peer = Some(peer);
        let left = std::mem::take(&mut upstream.left);
        let compare = self.config.full_storage_reconciliation && !upstream.reconciled;
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.upstream = Some(name.clone());
        state.unsynced_pages = Pages::Asked;
        self.actions.push(Action::ListUnsynced {
            upstream: name.clone(),
            after: None,
            limit: UNSYNCED_PAGE,
        });
        if compare {
            state.stored_pages = Pages::Asked;
            self.actions.push(Action::ListStored {
                upstream: name.clone(),
                after: None,
                limit: RECONCILE_PAGE,
            });
        }
        let mut ids: Vec<CoValueId> = left.keys().copied().collect();
        ids.extend(self.watched(name));
        ids.sort_unstable();
        ids.dedup();
        for (id, subscription) in left {
            if let Some(kept) = self.track(peer, id) {
                kept.resume(&subscription);
            }
        }
        for id in ids {
            let urgent = self.is_asked_for(id, name);
            self.request(peer, id, urgent);
        }
    }

    /// The CoValues that clients watch and an upstream is to be asked for.
    fn watched(&self, name: &UpstreamName) -> Vec<CoValueId> {
        self.subscribers
            .keys()
            .filter(|id| self.selected(**id).contains(name))
            .filter(|id| self.is_watched(**id))
            .copied()
            .collect()
    }

    fn is_watched(&self, id: CoValueId) -> bool {
        self.subscribers
            .get(&id)
            .into_iter()
            .flatten()
            .any(|peer| self.peers.get(peer).is_some_and(|state| state.upstream.is_none()))
    }

    fn is_asked_for(&self, id: CoValueId, name: &UpstreamName) -> bool {
        self.values.get(&id).is_some_and(
            |entry| matches!(&entry.presence, Presence::Asking(pending) if pending.contains(name)),
        )
    }

    pub(crate) fn upstream_disconnected(&mut self, name: &UpstreamName, peer: PeerId, state: Peer) {
        let Some(upstream) = self.upstreams.by_name.get_mut(name) else { return };
        if upstream.peer == Some(peer) {
            upstream.peer = None;
            upstream.left = state.subscriptions;
        }
    }

    /// The upstreams that a CoValue is synced with: the first by highest random weight.
    pub(crate) fn selected(&self, id: CoValueId) -> Vec<UpstreamName> {
        let names: Vec<UpstreamName> = self.upstreams.by_name.keys().cloned().collect();
        select(id, names, self.config.upstreams_per_co_value)
    }

    fn selected_peers(&self, id: CoValueId) -> Vec<(UpstreamName, Option<PeerId>)> {
        if self.upstreams.by_name.is_empty() {
            return Vec::new();
        }
        let peer = |name: &UpstreamName| self.upstreams.by_name.get(name)?.peer;
        self.selected(id).into_iter().map(|name| (name.clone(), peer(&name))).collect()
    }

    /// Storage does not have a CoValue: asks the upstreams, if there are any. `false` if not.
    pub(crate) fn ask_upstreams(&mut self, id: CoValueId) -> bool {
        let selected = self.selected_peers(id);
        if selected.is_empty() {
            return false;
        }
        let names = selected.iter().map(|(name, _)| name.clone()).collect();
        let deadline = self.now + self.config.load_time;
        self.timers.insert((deadline, id));
        self.entry(id).presence = Presence::Asking(names);
        for (_, peer) in selected {
            if let Some(peer) = peer {
                self.request(peer, id, true);
            }
        }
        true
    }

    /// Has the upstreams send what is new of a CoValue, and ask for what they lack.
    pub(crate) fn watch_upstream(&mut self, id: CoValueId) {
        for (_, peer) in self.selected_peers(id) {
            if let Some(peer) = peer
                && !self.subscription(peer, id).is_some_and(|state| state.asked)
            {
                self.request(peer, id, false);
            }
        }
    }

    /// Sends an upstream a LOAD, now if it is urgent and when it has few enough otherwise.
    fn request(&mut self, peer: PeerId, id: CoValueId, urgent: bool) {
        let limit = self.config.loads_per_upstream;
        let deadline = self.now + self.config.load_time;
        let Some(subscription) = self.track(peer, id) else { return };
        subscription.asked = true;
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if urgent || state.loads.len() < limit {
            if let Some(subscription) = state.subscriptions.get_mut(&id) {
                subscription.owes.load = true;
            }
            state.loads.insert(id, deadline);
            self.timers.insert((deadline, id));
            self.owe(peer, id);
        } else {
            state.loads_waiting.push_back(id);
        }
    }

    /// An upstream has answered a LOAD, or will not: the next may go.
    pub(crate) fn request_done(&mut self, peer: PeerId, id: CoValueId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.loads.remove(&id);
        self.next_requests(peer);
    }

    fn next_requests(&mut self, peer: PeerId) {
        let limit = self.config.loads_per_upstream;
        while let Some(state) = self.peers.get_mut(&peer)
            && state.loads.len() < limit
        {
            let Some(id) = state.loads_waiting.pop_front() else {
                return self.next_unsynced_page(peer);
            };
            self.request(peer, id, false);
        }
    }

    fn next_unsynced_page(&mut self, peer: PeerId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let (Pages::Next(after), Some(name)) = (&state.unsynced_pages, &state.upstream) else {
            return;
        };
        self.actions.push(Action::ListUnsynced {
            upstream: name.clone(),
            after: Some(*after),
            limit: UNSYNCED_PAGE,
        });
        state.unsynced_pages = Pages::Asked;
    }

    pub(crate) fn listed_unsynced(&mut self, name: &UpstreamName, ids: &[CoValueId]) {
        let Some(peer) = self.upstreams.by_name.get(name).and_then(|upstream| upstream.peer) else {
            return;
        };
        for id in ids {
            self.mark_tracked(*id, name);
            if !self.subscription(peer, *id).is_some_and(|state| state.asked) {
                self.request(peer, *id, false);
            }
        }
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.unsynced_pages = ids.last().map_or(Pages::Done, |last| Pages::Next(*last));
        self.next_requests(peer);
    }

    /// An upstream says that it has something, or nothing, of a CoValue.
    pub(crate) fn upstream_told(&mut self, peer: PeerId, id: CoValueId, has_it: bool) {
        let Some(name) = self.peers.get(&peer).and_then(|state| state.upstream.clone()) else {
            return;
        };
        self.request_done(peer, id);
        if !has_it {
            self.upstream_lacks(id, &name);
        }
        self.note_synced(peer, &name, id);
    }

    /// Content has come, which answers a LOAD if it was one to an upstream.
    pub(crate) fn upstream_answered(&mut self, peer: PeerId, content: &Content) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(deadline) = state.loads.get_mut(&content.id) else { return };
        if content.expect_content_until.is_some() {
            // The first of several pieces; the others have as much time again.
            *deadline = self.now + self.config.load_time;
            self.timers.insert((*deadline, content.id));
        } else {
            self.request_done(peer, content.id);
        }
    }

    fn upstream_lacks(&mut self, id: CoValueId, name: &UpstreamName) {
        let Some(entry) = self.values.get_mut(&id) else { return };
        let Presence::Asking(pending) = &mut entry.presence else { return };
        pending.retain(|other| other != name);
        if pending.is_empty() {
            entry.presence = Presence::Absent;
            self.decided(id);
        }
    }

    /// Upstreams that have not answered in time count as not having the CoValue.
    pub(crate) fn give_up_requests(&mut self, id: CoValueId) {
        let now = self.now;
        for (name, peer) in self.selected_peers(id) {
            let late = peer.is_none_or(|peer| {
                self.peers.get(&peer).is_none_or(|state| {
                    state.loads.get(&id).is_none_or(|deadline| *deadline <= now)
                })
            });
            if late {
                if let Some(peer) = peer {
                    self.request_done(peer, id);
                }
                self.upstream_lacks(id, &name);
            }
        }
    }

    /// Content has come that upstreams may lack: notes that they do, before it is stored.
    pub(crate) fn note_unsynced(&mut self, id: CoValueId) {
        for (name, peer) in self.selected_peers(id) {
            let synced = peer.is_some_and(|peer| self.has_everything(peer, id));
            let noted = self.upstreams.tracked.get(&id).is_some_and(|names| names.contains(&name));
            if !synced && !noted {
                self.mark_tracked(id, &name);
                self.actions.push(Action::Track { id, upstream: name, synced: false });
            }
        }
    }

    /// An upstream has said what it has: notes if that is everything.
    fn note_synced(&mut self, peer: PeerId, name: &UpstreamName, id: CoValueId) {
        let noted = self.upstreams.tracked.get(&id).is_some_and(|names| names.contains(name));
        if noted && self.has_everything(peer, id) {
            if let Some(names) = self.upstreams.tracked.get_mut(&id) {
                names.retain(|other| other != name);
                if names.is_empty() {
                    self.upstreams.tracked.remove(&id);
                }
            }
            self.actions.push(Action::Track { id, upstream: name.clone(), synced: true });
        }
    }

    fn mark_tracked(&mut self, id: CoValueId, name: &UpstreamName) {
        let names = self.upstreams.tracked.entry(id).or_default();
        if !names.contains(name) {
            names.push(name.clone());
        }
    }

    /// Whether a peer has acknowledged all that we have of a CoValue.
    fn has_everything(&self, peer: PeerId, id: CoValueId) -> bool {
        let Some(index) = self.values.get(&id).and_then(Entry::index) else { return false };
        self.subscription(peer, id).is_some_and(|subscription| {
            let known = subscription.known();
            known.header && index.missing(&known.sessions).is_empty()
        })
    }

    pub(crate) fn listed_stored(
        &mut self,
        name: &UpstreamName,
        values: Vec<(CoValueId, ShortHash)>,
    ) {
        let Some(upstream) = self.upstreams.by_name.get_mut(name) else { return };
        let Some(peer) = upstream.peer else { return };
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some((last, _)) = values.last() else {
            upstream.reconciled = true;
            state.stored_pages = Pages::Done;
            return;
        };
        upstream.batches += 1;
        state.stored_pages = Pages::Next(*last);
        state.reconciling = Some(Reconcile { id: format!("b{}", upstream.batches), values });
        self.wake(peer);
    }

    /// An upstream has been brought up to date with a batch.
    pub(crate) fn reconcile_acknowledged(&mut self, peer: PeerId, batch: &str) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if state.reconciling.as_ref().is_none_or(|sent| sent.id != batch) {
            return;
        }
        state.reconciling = None;
        if let (Pages::Next(after), Some(name)) = (&state.stored_pages, &state.upstream) {
            self.actions.push(Action::ListStored {
                upstream: name.clone(),
                after: Some(*after),
                limit: RECONCILE_PAGE,
            });
            state.stored_pages = Pages::Asked;
        }
    }

    /// What an upstream is told that we have of a CoValue.
    pub(crate) fn our_state(&self, id: CoValueId) -> KnownState {
        match self.values.get(&id).and_then(Entry::index) {
            Some(index) => index.durable(id),
            None => KnownState::empty(id),
        }
    }
}

/// The names with the `count` highest weights, of which each is the first 4 bytes, big-endian, of
/// MD5(id + name).
fn select(id: CoValueId, mut names: Vec<UpstreamName>, count: usize) -> Vec<UpstreamName> {
    if names.len() > count {
        let weight = |name: &UpstreamName| {
            let hash =
                Md5::new().chain_update(id.as_str()).chain_update(name.as_bytes()).finalize();
            u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
        };
        names.sort_by_cached_key(|name| std::cmp::Reverse(weight(name)));
        names.truncate(count);
    }
    names
}

#[cfg(test)]
mod tests {
    use rustc_hash::FxHashSet;

    use super::*;

    #[test]
    fn each_covalue_has_its_own_order_of_upstreams() {
        let names = || ["wss://a".into(), "wss://b".into(), "wss://c".into()].to_vec();
        let chosen: FxHashSet<UpstreamName> = ["co_z1", "co_z2", "co_z3", "co_z4", "co_z5"]
            .iter()
            .flat_map(|id| select(CoValueId::parse(id).unwrap(), names(), 1))
            .collect();
        assert!(chosen.len() > 1);
        let all = select(CoValueId::parse("co_z1").unwrap(), names(), 3);
        assert_eq!(all.len(), 3);
    }
}
