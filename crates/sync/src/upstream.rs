//! Upstreams: servers that are asked for what we lack, and given what we have.

use std::collections::BTreeMap;

use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, Content, KnownState, Reconcile, ShortHash};
use md5::{Digest, Md5};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::action::Action;
use crate::covalue::{Asked, Entry, Presence};
use crate::event::{Millis, PeerId, UpstreamName};
use crate::faults::Fault;
use crate::machine::Machine;
use crate::peer::Pages;
use crate::subscription::Subscription;

/// CoValues that are looked up at a time in the list of those that an upstream lacks.
const UNSYNCED_PAGE: usize = 100;

/// CoValues compared in one reconcile message (reference: 100).
const RECONCILE_PAGE: usize = 100;

/// How long a new upstream counts as connecting, in milliseconds. Until then it is waited for: when
/// a server starts, its clients are often back before its own upstream is.
const CONNECT_TIME: Millis = 2_000;

/// Notes that may be in memory though hardly any CoValues are to be, so that the list in storage is
/// not gone through for a handful.
const MIN_TRACKED: usize = 1_024;

/// LOADs that wait for room though nobody needs them any longer, before they are looked through,
/// so that this is not done for a handful.
pub(crate) const MIN_STALE_LOADS: usize = 1_024;

/// The upstreams that there are, connected or not.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    by_name: BTreeMap<UpstreamName, Upstream>,
    /// CoValues with a note in storage that an upstream has not acknowledged all of them. Those
    /// that are forgotten are left out while the upstream is away, and where there are more than
    /// CoValues may be warm: the notes in storage are listed when it comes, or has acknowledged
    /// enough.
    tracked: FxHashMap<CoValueId, Vec<UpstreamName>>,
}

#[derive(Debug, Default)]
struct Upstream {
    /// The connection, while there is one.
    peer: Option<PeerId>,
    /// Until when it is waited for though it has not been connected yet.
    connects_until: Millis,
    /// Between connections: what it was asked for, and had.
    left: FxHashMap<CoValueId, Subscription>,
    /// Batches sent so far, for their names.
    batches: u64,
    /// Whether everything in storage has been compared with it.
    reconciled: bool,
    /// The last CoValue in storage of those that have been compared with it.
    compared: Option<CoValueId>,
    /// Whether there are notes in storage that are not in memory, nor listed by what is under way.
    has_left_out: bool,
}

impl Machine {
    /// Makes an upstream known before it is connected. It is waited for during the next two seconds.
    pub fn add_upstream(&mut self, name: UpstreamName) {
        let connects_until = self.now + CONNECT_TIME;
        let upstream = Upstream { connects_until, ..Upstream::default() };
        self.upstreams.by_name.entry(name).or_insert(upstream);
    }

    /// Whether an upstream that may have a CoValue is not connected.
    pub fn is_upstream_away(&self, id: CoValueId) -> bool {
        self.selected_peers(id).iter().any(|(_, peer)| peer.is_none())
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
                known.header && known_state::is_subset(&state.sessions, known.sessions)
            })
        })
    }

    /// The number of CoValues of which it is known in memory that an upstream has not acknowledged
    /// them.
    pub fn noted_in_memory(&self) -> usize {
        self.upstreams.tracked.len()
    }

    pub(crate) fn upstream_connected(&mut self, peer: PeerId, name: &UpstreamName) {
        let upstream = self.upstreams.by_name.entry(name.clone()).or_default();
        upstream.peer = Some(peer);
        upstream.connects_until = 0;
        upstream.has_left_out = false;
        let left = std::mem::take(&mut upstream.left);
        let compare = self.config.full_storage_reconciliation && !upstream.reconciled;
        let compared = upstream.compared;
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
                after: compared,
                limit: RECONCILE_PAGE,
            });
        }
        let mut ids: Vec<CoValueId> = left.keys().copied().collect();
        ids.extend(self.watched(name));
        let is_needed =
            |id: &CoValueId| self.is_asked_for(*id, name) || self.lacks_dependency(*id, name);
        ids.extend(self.values.iter().map(|(id, _)| id).filter(is_needed));
        ids.sort_unstable();
        ids.dedup();
        for (id, subscription) in left {
            if let Some(kept) = self.track(peer, id) {
                kept.resume(&subscription);
            }
        }
        if self.has_fault(Fault::AskNoUpstreamAgain) {
            ids.clear();
        }
        for id in ids {
            let urgent = self.is_asked_for(id, name) || self.lacks_dependency(id, name);
            self.request(peer, id, urgent);
        }
    }

    /// The CoValues that clients watch and an upstream is to be asked for.
    fn watched(&self, name: &UpstreamName) -> Vec<CoValueId> {
        self.values
            .subscribed()
            .map(|(id, _)| id)
            .filter(|id| self.selected(*id).contains(name))
            .filter(|id| self.is_watched(*id))
            .collect()
    }

    fn is_watched(&self, id: CoValueId) -> bool {
        self.values
            .subscribers(id)
            .iter()
            .any(|peer| self.peers.get(peer).is_some_and(|state| state.upstream.is_none()))
    }

    fn is_asked_for(&self, id: CoValueId, name: &UpstreamName) -> bool {
        self.values.get(&id).is_some_and(
            |entry| matches!(&entry.presence, Presence::Asking(asked) if asked.pending.contains(name)),
        )
    }

    /// Whether content waits for a CoValue that was not here when an upstream was away.
    fn lacks_dependency(&self, id: CoValueId, name: &UpstreamName) -> bool {
        let is_needed = self.values.get(&id).is_some_and(|entry| {
            matches!(entry.presence, Presence::Absent)
                && (!entry.dependants.is_empty() || !entry.held.is_empty())
        });
        is_needed && self.selected(id).contains(name)
    }

    /// `left` is what was known of its part in each CoValue.
    pub(crate) fn upstream_disconnected(
        &mut self,
        name: &UpstreamName,
        peer: PeerId,
        mut left: FxHashMap<CoValueId, Subscription>,
    ) {
        for id in left.keys() {
            if let Some(index) = self.values.get_mut(id).and_then(Entry::index_mut) {
                index.expect_nothing_from(peer);
            }
        }
        let Some(upstream) = self.upstreams.by_name.get_mut(name) else { return };
        if upstream.peer != Some(peer) {
            return;
        }
        upstream.peer = None;
        // It gives no answer any longer. When it is back, it is asked for what clients watch.
        let mut asked: Vec<CoValueId> = left.keys().copied().collect();
        asked.sort_unstable();
        for id in asked {
            self.upstream_lacks(id, name);
        }
        left.retain(|id, _| self.values.contains_key(id) || self.is_watched(*id));
        if let Some(upstream) = self.upstreams.by_name.get_mut(name) {
            upstream.left = left;
        }
        let values = &self.values;
        self.upstreams.tracked.retain(|id, names| {
            names.retain(|other| other != name || values.contains_key(id));
            !names.is_empty()
        });
    }

    /// A CoValue has been forgotten, or nobody who is left watches one that is: upstreams need not
    /// send what is new of it, unless they have not got all of it yet. It is asked for again when
    /// somebody comes for it. So no more is kept for an upstream than for as many CoValues as may
    /// be warm, those that are, and those that clients watch.
    ///
    /// What is absent was asked for in vain, or for somebody who has left: no answer is waited for.
    pub(crate) fn unwatch_upstream(&mut self, id: CoValueId, is_absent: bool) {
        let mut unwatched = Vec::new();
        let is_watched = self.is_watched(id);
        let bound = self.config.warm_co_values;
        let is_too_much = self.upstreams.tracked.len() > bound.max(MIN_TRACKED);
        let key = self.values.key(id);
        for (name, upstream) in &mut self.upstreams.by_name {
            let mut tracked = self.upstreams.tracked.get_mut(&id);
            if is_too_much && let Some(names) = &mut tracked {
                upstream.has_left_out |= names.contains(name);
                names.retain(|other| other != name);
            }
            let Some(peer) = upstream.peer else {
                if !is_watched {
                    upstream.left.remove(&id);
                }
                if let Some(names) = tracked {
                    names.retain(|other| other != name);
                }
                continue;
            };
            let Some(state) = self.peers.get_mut(&peer).filter(|_| !is_watched) else { continue };
            let is_open = state.subscriptions.len() <= bound
                || tracked.is_some_and(|names| names.contains(name))
                || !is_absent && state.loads.contains_key(&id)
                || key
                    .and_then(|key| state.subscriptions.get(&key))
                    .is_none_or(|subscription| subscription.queued);
            if let Some(key) = key
                && !is_open
            {
                state.subscriptions.remove(&key);
                unwatched.push(peer);
            }
        }
        if self.upstreams.tracked.get(&id).is_some_and(Vec::is_empty) {
            self.upstreams.tracked.remove(&id);
        }
        for peer in unwatched {
            self.values.unsubscribe(id, peer);
            self.request_done(peer, id);
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
    pub(crate) fn ask_upstreams(&mut self, id: CoValueId, asker: Option<PeerId>) -> bool {
        let mut selected = self.selected_peers(id);
        // One that is away is asked when it is back, for the clients that are subscribed then.
        let mut until = self.now + self.config.load_time;
        if selected.iter().all(|(_, peer)| peer.is_none()) {
            selected.retain(|(name, _)| self.connects_until(name) > self.now);
            until = selected.iter().map(|(name, _)| self.connects_until(name)).max().unwrap_or(0);
        } else {
            selected.retain(|(_, peer)| {
                peer.is_some_and(|peer| {
                    !self.asks_alone(peer, id, asker) && !self.lacks_it(peer, id)
                })
            });
        }
        if selected.is_empty() {
            return false;
        }
        let pending = selected.iter().map(|(name, _)| name.clone()).collect();
        self.timers.insert((until, id));
        self.entry(id).presence = Presence::Asking(Asked { pending, until });
        for (_, peer) in selected {
            if let Some(peer) = peer
                && !self.is_requested(peer, id)
            {
                self.request(peer, id, true);
            }
        }
        true
    }

    fn connects_until(&self, name: &UpstreamName) -> Millis {
        self.upstreams.by_name.get(name).map_or(0, |upstream| upstream.connects_until)
    }

    /// Whether an upstream has been asked for a CoValue lately and has not come up with it. It is
    /// subscribed to, so it sends the CoValue when it gets it, and is not asked again: where nodes
    /// are each other's upstreams, LOADs for what nobody has would go round for ever.
    fn lacks_it(&self, peer: PeerId, id: CoValueId) -> bool {
        let needs_it = |entry: &Entry| entry.dependants.iter().any(|(_, other)| *other == peer);
        self.subscription(peer, id).is_some_and(|subscription| {
            subscription.is_asked_lately(self.now) && !subscription.known().header
        }) && !self.is_requested(peer, id)
            && !self.values.get(&id).is_some_and(needs_it)
    }

    /// Whether nobody but a peer wants to know if a CoValue is there.
    fn asks_alone(&self, peer: PeerId, id: CoValueId, asker: Option<PeerId>) -> bool {
        let Some(entry) = self.values.get(&id) else { return asker == Some(peer) };
        let mut askers = entry.waiting.iter().map(|(other, _)| *other).chain(asker).peekable();
        askers.peek().is_some() && askers.all(|other| other == peer) && entry.dependants.is_empty()
    }

    pub(crate) fn is_asked_upstream(&self, id: CoValueId) -> bool {
        self.values.get(&id).is_some_and(|entry| matches!(entry.presence, Presence::Asking(_)))
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
        let now = self.now;
        let Some(subscription) = self.track(peer, id) else { return };
        subscription.asked = true;
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if urgent || state.loads.len() < limit {
            if let Some(subscription) =
                self.values.key(id).and_then(|key| state.subscriptions.get_mut(&key))
            {
                subscription.ask(now);
            }
            state.loads.insert(id, deadline);
            self.timers.insert((deadline, id));
            if let Some(Presence::Asking(asked)) =
                self.values.get_mut(&id).map(|entry| &mut entry.presence)
            {
                asked.until = deadline;
            }
            self.owe(peer, id);
        } else {
            state.loads_waiting.push_back(id);
            if state.loads_waiting.len() > 2 * state.subscriptions.len() + MIN_STALE_LOADS {
                let mut seen = FxHashSet::default();
                let (values, subscriptions) = (&self.values, &state.subscriptions);
                state.loads_waiting.retain(|id| {
                    let key = values.key(*id);
                    key.is_some_and(|key| subscriptions.contains_key(&key)) && seen.insert(*id)
                });
            }
        }
    }

    /// LOADs to an upstream that are under way or wait for room.
    pub fn loads_to(&self, peer: PeerId) -> usize {
        self.peers.get(&peer).map_or(0, |state| state.loads.len() + state.loads_waiting.len())
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
            let key = self.values.key(id);
            if key.is_some_and(|key| state.subscriptions.contains_key(&key))
                && !state.loads.contains_key(&id)
            {
                self.request(peer, id, false);
            }
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
            let is_asked = self.subscription(peer, *id).is_some_and(|state| state.asked);
            if is_asked && self.has_everything(peer, *id) {
                self.note_synced(peer, *id);
            } else if !is_asked || !self.is_requested(peer, *id) {
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
        self.note_synced(peer, id);
    }

    /// What an upstream has sent is no answer.
    pub(crate) fn upstream_refused(&mut self, peer: PeerId, id: CoValueId) {
        if let Some(name) = self.peers.get(&peer).and_then(|state| state.upstream.clone()) {
            self.upstream_lacks(id, &name);
        }
    }

    fn is_requested(&self, peer: PeerId, id: CoValueId) -> bool {
        self.peers.get(&peer).is_some_and(|state| state.loads.contains_key(&id))
    }

    /// Whether what an upstream says of a CoValue matters even if the CoValue is not in memory.
    pub(crate) fn is_awaited_from_upstream(&self, peer: PeerId, id: CoValueId) -> bool {
        let Some(name) = self.peers.get(&peer).and_then(|state| state.upstream.as_ref()) else {
            return false;
        };
        let noted = self.upstreams.tracked.get(&id).is_some_and(|names| names.contains(name));
        noted || self.is_requested(peer, id)
    }

    /// Content has come, which answers a LOAD if it was one to an upstream.
    pub(crate) fn upstream_answered(&mut self, peer: PeerId, content: &Content) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(deadline) = state.loads.get_mut(&content.id) else { return };
        if content.expect_content_until.is_some() {
            // The first of several pieces; the others have as much time again.
            *deadline = self.now + self.config.load_time;
            self.timers.insert((*deadline, content.id));
            let until = *deadline;
            if let Some(Presence::Asking(asked)) =
                self.values.get_mut(&content.id).map(|entry| &mut entry.presence)
            {
                asked.until = until;
            }
        } else {
            self.request_done(peer, content.id);
        }
    }

    /// A peer has left: what only it has waited for is not waited for any longer. If it comes after
    /// all, it is taken.
    pub(crate) fn wait_for_nobody(&mut self, id: CoValueId) {
        let Some(entry) = self.values.get_mut(&id) else { return };
        if !matches!(entry.presence, Presence::Asking(_)) {
            return;
        }
        let peers = &self.peers;
        let needs_it = |(peer, served): &(PeerId, CoValueId)| {
            // Upstreams wait for it only to be given it.
            *served != id || peers.get(peer).is_some_and(|state| state.upstream.is_none())
        };
        let is_needed = entry.waiting.iter().any(needs_it);
        if !is_needed && entry.dependants.is_empty() && entry.held.is_empty() {
            entry.presence = Presence::Absent;
            self.decided(id);
        }
    }

    fn upstream_lacks(&mut self, id: CoValueId, name: &UpstreamName) {
        let Some(entry) = self.values.get_mut(&id) else { return };
        let Presence::Asking(asked) = &mut entry.presence else { return };
        asked.pending.retain(|other| other != name);
        if asked.pending.is_empty() {
            entry.presence = Presence::Absent;
            self.decided(id);
        }
    }

    /// Upstreams that have not answered in time count as not having the CoValue.
    pub(crate) fn give_up_requests(&mut self, id: CoValueId) {
        let now = self.now;
        let is_late = |peer: &PeerId| {
            let deadline = self.peers.get(peer).and_then(|state| state.loads.get(&id));
            deadline.is_some_and(|deadline| *deadline <= now)
        };
        let connected = self.upstreams.by_name.values().filter_map(|upstream| upstream.peer);
        let late: Vec<PeerId> = connected.filter(is_late).collect();
        let is_forgotten = !late.is_empty() && !self.values.contains_key(&id);
        for peer in late {
            self.request_done(peer, id);
        }
        if is_forgotten {
            self.unwatch_upstream(id, false);
        }
        if let Some(entry) = self.values.get_mut(&id)
            && matches!(&entry.presence, Presence::Asking(asked) if asked.until <= now)
        {
            entry.presence = Presence::Absent;
            self.decided(id);
        }
    }

    /// Content has come that upstreams may lack: notes that they do, before it is stored.
    pub(crate) fn note_unsynced(&mut self, id: CoValueId) {
        if self.has_fault(Fault::ForgetUnsynced) {
            return;
        }
        for (name, peer) in self.selected_peers(id) {
            let synced = peer.is_some_and(|peer| self.has_everything(peer, id));
            let noted = self.upstreams.tracked.get(&id).is_some_and(|names| names.contains(&name));
            if !synced && !noted {
                self.mark_tracked(id, &name);
                self.actions.push(Action::Track { id, upstream: name, synced: false });
            }
        }
    }

    /// Strikes out the note that a peer has not acknowledged a CoValue, if it has, or if there is
    /// nothing to acknowledge.
    pub(crate) fn note_synced(&mut self, peer: PeerId, id: CoValueId) {
        let Some(names) = self.upstreams.tracked.get(&id) else { return };
        let Some(name) = self.peers.get(&peer).and_then(|state| state.upstream.clone()) else {
            return;
        };
        let is_absent =
            self.values.get(&id).is_some_and(|entry| matches!(entry.presence, Presence::Absent));
        if !names.contains(&name) || !is_absent && !self.has_everything(peer, id) {
            return;
        }
        if let Some(names) = self.upstreams.tracked.get_mut(&id) {
            names.retain(|other| *other != name);
            if names.is_empty() {
                self.upstreams.tracked.remove(&id);
            }
        }
        self.actions.push(Action::Track { id, upstream: name.clone(), synced: true });
        self.list_left_out(peer, &name);
    }

    /// Notes that are not in memory are listed once there is room for some.
    fn list_left_out(&mut self, peer: PeerId, name: &UpstreamName) {
        if self.upstreams.tracked.len() > self.config.warm_co_values.max(MIN_TRACKED) / 2 {
            return;
        }
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(upstream) = self.upstreams.by_name.get_mut(name) else { return };
        if !upstream.has_left_out || !matches!(state.unsynced_pages, Pages::Done) {
            return;
        }
        upstream.has_left_out = false;
        state.unsynced_pages = Pages::Asked;
        let (upstream, limit) = (name.clone(), UNSYNCED_PAGE);
        self.actions.push(Action::ListUnsynced { upstream, after: None, limit });
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
            known.header && index.missing(known.sessions).is_empty()
        })
    }

    pub(crate) fn listed_stored(
        &mut self,
        name: &UpstreamName,
        mut values: Vec<(CoValueId, ShortHash)>,
    ) {
        let last = values.last().map(|(id, _)| *id);
        values.retain(|(id, _)| self.selected(*id).contains(name));
        let Some(upstream) = self.upstreams.by_name.get_mut(name) else { return };
        let Some(peer) = upstream.peer else { return };
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(last) = last else {
            upstream.reconciled = true;
            state.stored_pages = Pages::Done;
            return;
        };
        state.stored_pages = Pages::Next(last);
        if values.is_empty() {
            return self.next_stored_page(peer);
        }
        upstream.batches += 1;
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
        self.next_stored_page(peer);
    }

    fn next_stored_page(&mut self, peer: PeerId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let (Pages::Next(after), Some(name)) = (&state.stored_pages, &state.upstream) else {
            return;
        };
        if let Some(upstream) = self.upstreams.by_name.get_mut(name) {
            upstream.compared = Some(*after);
        }
        self.actions.push(Action::ListStored {
            upstream: name.clone(),
            after: Some(*after),
            limit: RECONCILE_PAGE,
        });
        state.stored_pages = Pages::Asked;
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
    use super::*;

    /// What the reference's selector chooses among these four, by CoValue: the first, the second
    /// and the third by weight.
    const UPSTREAMS: [&str; 4] =
        ["wss://a.example", "wss://b.example", "wss://c.example", "wss://d.example"];
    const CHOSEN: [(&str, [&str; 3]); 6] = [
        ("co_z7oxMo1zgLtrZpewTmcky3mL1CS", ["b", "d", "c"]),
        ("co_zEcT3iATxtEqCgA38rmZmypytx7", ["c", "d", "a"]),
        ("co_zMQwjdJwFRaoqHDgC8FP6Cuqw1i", ["b", "a", "c"]),
        ("co_zUDSRYTQXbXDNirdvoWLHy4jnFj", ["a", "b", "c"]),
        ("co_zb1w7TUgnm4mF4dfrAETQg5GUav", ["c", "b", "a"]),
        ("co_zhpPPJM7SH5DpRu1EGVEcRonnJf", ["c", "a", "d"]),
    ];

    #[test]
    fn the_chosen_upstreams_are_those_that_the_reference_chooses() {
        for (id, letters) in CHOSEN {
            for count in 1..=3 {
                let names = UPSTREAMS.iter().map(|name| UpstreamName::from(*name)).collect();
                let chosen = select(CoValueId::parse(id).unwrap(), names, count);
                let expected = letters[..count].iter().map(|name| format!("wss://{name}.example"));
                assert!(expected.eq(chosen.iter().map(ToString::to_string)), "{id} {count}");
            }
        }
    }

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
