//! The machine: its state, the dispatch of events, and what is common to their handling.

use std::collections::VecDeque;

use downbeat_protocol::{CoValueId, Known, Message, Priority, SessionId};
use rustc_hash::FxHashMap;

use crate::action::Action;
use crate::config::Config;
use crate::covalue::{Entry, Presence};
use crate::event::{Event, Millis, PeerId, Refusal, Role};
use crate::faults::Fault;
use crate::peer::Peer;
use crate::report::{Rejection, Report};
use crate::subscription::{Owes, Subscription};
use crate::upstream::Upstreams;
use crate::values::{Key, Values};
use crate::walk::Walk;

/// Stamps of use that may be out of date before they are looked through, so that this is not done
/// for a handful.
pub(crate) const MIN_STALE_STAMPS: usize = 1_024;

/// An entry's use is not noted again within as many events as there are entries, divided by this:
/// what is used all the time (groups, accounts) would fill the list.
const USED_LATELY: usize = 8;

/// Busy entries that are passed over for each one that has to be forgotten.
const BUSY_PASSED_OVER: usize = 2;

/// The sync machine. Feed it events with [`Machine::handle`], and take what it wants done with
/// [`Machine::poll`].
///
/// It is deterministic: the same events at the same times give the same actions.
#[derive(Debug, Default)]
pub struct Machine {
    pub(crate) config: Config,
    pub(crate) now: Millis,
    pub(crate) peers: FxHashMap<PeerId, Peer>,
    /// The CoValues in memory, and who has a subscription to which.
    pub(crate) values: Values,
    /// Idle peers that something is owed to.
    pub(crate) ready: VecDeque<PeerId>,
    pub(crate) actions: Vec<Action>,
    /// The order in which entries were used, oldest first; a stale stamp is skipped.
    pub(crate) used: VecDeque<(Key, u64)>,
    /// The present stamp of use: one for each event.
    pub(crate) uses: u64,
    /// The same for hash chains.
    pub(crate) chains_used: VecDeque<(CoValueId, SessionId, u64)>,
    /// Held content that waits for nothing any longer: of which CoValue, and from which peer.
    pub(crate) retries: VecDeque<(CoValueId, PeerId)>,
    /// Bytes of held content whose senders have left.
    pub(crate) left_bytes: u64,
    /// Walks through the dependencies of a CoValue for a peer that wait for look-ups.
    pub(crate) walks: FxHashMap<(PeerId, CoValueId), Walk>,
    /// CoValues with something that waits for a time, by that time.
    pub(crate) timers: std::collections::BTreeSet<(Millis, CoValueId)>,
    pub(crate) upstreams: Upstreams,
    /// Hash chains in memory, over all CoValues.
    pub(crate) warm_chains: usize,
    #[cfg(feature = "faults")]
    pub(crate) fault: Option<Fault>,
}

impl Machine {
    /// A machine that knows nothing yet.
    pub fn new(config: Config) -> Self {
        Self { config, ..Self::default() }
    }

    /// Takes in what has happened at a time. Completions that nobody waits for are ignored.
    pub fn handle(&mut self, now: Millis, event: Event) {
        self.now = self.now.max(now);
        self.uses += 1;
        let about = event.co_value();
        match event {
            Event::Connected { peer, role } => {
                self.peers.entry(peer).or_default();
                if let Role::Upstream(name) = role {
                    self.upstream_connected(peer, &name);
                }
            }
            Event::Disconnected(peer) => self.disconnected(peer),
            Event::Received { peer, message } => self.received(peer, message),
            Event::Refused { peer, id, refusal } => self.refused(peer, id, refusal),
            Event::Loaded { id, result } => self.loaded(id, result),
            Event::Verified(verified) => self.verified(verified),
            Event::Stored(stored) => self.stored(stored),
            Event::TurnDone { peer, progress } => self.turn_done(peer, &progress),
            Event::Unsynced { upstream, ids } => self.listed_unsynced(&upstream, &ids),
            Event::Listed { upstream, values } => self.listed_stored(&upstream, values),
            Event::Tick => {}
        }
        self.run_timers();
        self.retry_held();
        if let Some(id) = about {
            self.finish_comparisons(id);
        }
    }

    /// What is to be done now. Calling this once for several events lets what they owe to one
    /// peer go out together.
    pub fn poll(&mut self, actions: &mut Vec<Action>) {
        while let Some(peer) = self.ready.pop_front() {
            self.draw(peer);
        }
        self.forget_unused();
        actions.append(&mut self.actions);
    }

    /// When the next [`Event::Tick`] is due at the latest, if one is.
    pub fn deadline(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The number of CoValues in memory.
    pub fn warm_co_values(&self) -> usize {
        self.values.len()
    }

    /// The number of connected peers.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// The number of CoValues that something is kept about for a peer.
    pub fn subscriptions(&self, peer: PeerId) -> usize {
        self.peers.get(&peer).map_or(0, |state| state.subscriptions.len())
    }

    fn disconnected(&mut self, peer: PeerId) {
        let Some(state) = self.peers.remove(&peer) else { return };
        let mut left = FxHashMap::default();
        for (key, subscription) in state.subscriptions {
            let id = self.values.id(key);
            self.values.unsubscribe(id, peer);
            self.wait_for_nobody(id);
            if state.upstream.is_some() {
                left.insert(id, subscription);
            } else if !self.values.contains_key(&id) {
                self.unwatch_upstream(id, false);
            }
        }
        self.keep_held_of(peer, state.held_bytes, &state.holds);
        if let Some(name) = &state.upstream {
            self.upstream_disconnected(name, peer, left);
        }
    }

    fn received(&mut self, peer: PeerId, message: Message) {
        if !self.peers.contains_key(&peer) {
            return;
        }
        match message {
            Message::Load(state) => self.received_load(peer, state),
            Message::Known(known) => self.received_known(peer, known),
            Message::Content(content) => self.received_content(peer, content),
            Message::Reconcile(reconcile) => self.received_reconcile(peer, reconcile),
            Message::ReconcileAck(batch) => self.reconcile_acknowledged(peer, &batch),
            // The runtime answers what is about no CoValue.
            Message::Done(_) | Message::Unknown(_) => {}
        }
    }

    /// The runtime has refused something of a peer.
    fn refused(&mut self, peer: PeerId, id: CoValueId, refusal: Refusal) {
        match refusal {
            Refusal::Load => {
                if let Some(subscription) = self.track(peer, id) {
                    subscription.owes.add(Owes::NOT_FOUND);
                    self.owe(peer, id);
                }
            }
            Refusal::Content => {
                self.upstream_told(peer, id, false);
                self.ask_again(peer, id);
                if self.is_client(peer)
                    && let Some(subscription) = self.track(peer, id)
                {
                    subscription.owes.add(Owes::NOT_FOUND);
                    self.refuse_whole(peer, id);
                    self.client_answered(peer, id);
                    self.compared(peer, id);
                    self.owe(peer, id);
                }
            }
            Refusal::Earlier => {
                if self.track(peer, id).is_some() {
                    self.refuse_whole(peer, id);
                }
            }
            Refusal::Session(session) => {
                if self.track(peer, id).is_some() {
                    self.refuse_session(peer, id, session);
                    self.compared(peer, id);
                }
            }
        }
    }

    pub(crate) fn is_client(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|state| state.upstream.is_none())
    }

    /// Whether content of a CoValue that a peer has sent is being looked at, or waits.
    pub(crate) fn is_sending(&self, peer: PeerId, id: CoValueId) -> bool {
        let Some(entry) = self.values.get(&id) else { return false };
        entry.parked > 0
            || entry.inbox.iter().any(|(other, ..)| *other == peer)
            || self.is_holding(peer, id)
            || entry.index().is_some_and(|index| index.is_verifying(peer))
    }

    fn received_known(&mut self, peer: PeerId, known: Known) {
        let Known { state, is_correction, .. } = known;
        let id = state.id;
        let is_new = self.subscription(peer, id).is_none();
        let has_it = state.header;
        let is_upstream = self.peers.get(&peer).is_some_and(|state| state.upstream.is_some());
        if is_new && is_upstream && !has_it && !is_correction {
            // The answer to a LOAD that nobody needs any longer.
            return self.upstream_told(peer, id, false);
        }
        let replaces = self.has_fault(Fault::KnownReplaces);
        let is_agreed = !self.values.contains_key(&id) && self.is_agreed(peer, &state);
        let Some(subscription) = self.subscribe(peer, id) else { return };
        subscription.set_older(false);
        if is_correction || replaces {
            subscription.replace(state);
        } else if is_agreed {
            subscription.claimed = false;
        } else {
            subscription.hear(state);
        }
        subscription.owes.add(Owes::FIRST);
        self.client_answered(peer, id);
        let is_compared = self.compared(peer, id);
        self.answered_for_group(peer, id);
        let is_awaited = self.is_awaited_from_upstream(peer, id);
        self.upstream_told(peer, id, has_it);
        // A CoValue that was forgotten owes nothing to a peer that only acknowledges.
        let matters = is_new || is_correction || is_awaited || is_compared;
        if matters || self.values.contains_key(&id) {
            self.serve(peer, id);
        }
    }

    /// A client that has been asked for a CoValue, or not, says something of it.
    pub(crate) fn client_answered(&mut self, peer: PeerId, id: CoValueId) {
        let Some(state) = self.peers.get(&peer) else { return };
        if state.upstream.is_none()
            && let Some(subscription) = self.subscription_mut(peer, id)
        {
            subscription.asked = false;
        }
    }

    /// Does what was to be done by now.
    fn run_timers(&mut self) {
        while let Some(&(at, id)) = self.timers.first() {
            if at > self.now {
                break;
            }
            self.timers.pop_first();
            if let Some(entry) = self.values.get_mut(&id)
                && matches!(entry.presence, Presence::Unknown(retry) if retry <= at)
            {
                entry.presence = Presence::Loading;
                self.actions.push(Action::Load(id));
            }
            self.give_up_held(id);
            self.give_up_requests(id);
            self.owe_corrections(id);
            self.finish_comparisons(id);
        }
    }

    /// The entry of a CoValue; storage is asked if the machine has none.
    pub(crate) fn entry(&mut self, id: CoValueId) -> &mut Entry {
        let lately = (self.values.len() / USED_LATELY) as u64;
        let actions = &mut self.actions;
        let (key, entry) = self.values.get_or_insert_with(id, || {
            actions.push(Action::Load(id));
            Entry::new(Presence::Loading)
        });
        if entry.used == 0 || self.uses - entry.used > lately {
            entry.used = self.uses;
            self.used.push_back((key, self.uses));
        }
        entry
    }

    /// Has the peer sent what is new of a CoValue from now on. `None` if it may have no more
    /// subscriptions, or is gone.
    pub(crate) fn subscribe(&mut self, peer: PeerId, id: CoValueId) -> Option<&mut Subscription> {
        let subscription = self.track(peer, id)?;
        subscription.subscribed = true;
        Some(subscription)
    }

    /// What is kept of a peer's part in a CoValue, made if there is nothing yet.
    pub(crate) fn track(&mut self, peer: PeerId, id: CoValueId) -> Option<&mut Subscription> {
        let state = self.peers.get(&peer)?;
        let key = self.values.key(id).filter(|key| state.subscriptions.contains_key(key));
        let key = if let Some(key) = key {
            key
        } else {
            if state.upstream.is_none()
                && state.subscriptions.len() >= self.config.subscriptions_per_peer
            {
                self.report(Report::new(peer, id, Rejection::TooManySubscriptions));
                return None;
            }
            self.values.subscribe(id, peer)
        };
        Some(self.peers.get_mut(&peer)?.subscriptions.entry(key).or_default())
    }

    pub(crate) fn subscription(&self, peer: PeerId, id: CoValueId) -> Option<&Subscription> {
        self.peers.get(&peer)?.subscriptions.get(&self.values.key(id)?)
    }

    pub(crate) fn subscription_mut(
        &mut self,
        peer: PeerId,
        id: CoValueId,
    ) -> Option<&mut Subscription> {
        self.peers.get_mut(&peer)?.subscriptions.get_mut(&self.values.key(id)?)
    }

    /// Something may be owed to a peer of a CoValue: what it is turns out when it is drawn.
    pub(crate) fn owe(&mut self, peer: PeerId, id: CoValueId) {
        let priority = self.values.get(&id).map_or(Priority::Medium, Entry::priority);
        let Some(key) = self.values.key(id) else { return };
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.owe(key, priority);
        self.wake(peer);
    }

    /// Puts a peer that has no turn, and is owed something, on the list for the next draw.
    pub(crate) fn wake(&mut self, peer: PeerId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !state.busy && !state.ready && !state.owes_nothing() {
            state.ready = true;
            self.ready.push_back(peer);
        }
    }

    pub(crate) fn report(&mut self, report: Report) {
        self.actions.push(Action::Report(report));
    }

    pub(crate) fn release(&mut self, peer: PeerId, bytes: u64) {
        if bytes > 0 {
            self.actions.push(Action::Release { peer, bytes });
        }
    }

    /// Forgets the entries that were not used for longest, as long as there are too many.
    fn forget_unused(&mut self) {
        let bound = self.config.warm_co_values;
        let mut tries = BUSY_PASSED_OVER * self.values.len().saturating_sub(bound);
        while self.values.len() > bound && tries > 0 {
            let Some((key, stamp)) = self.used.pop_front() else { break };
            let Some(entry) = self.values.at_mut(key).filter(|entry| entry.used == stamp) else {
                continue;
            };
            tries -= 1;
            if entry.is_quiet() {
                self.forget(self.values.id(key));
            } else {
                // Busy, so it counts as used now.
                self.uses += 1;
                entry.used = self.uses;
                self.used.push_back((key, self.uses));
            }
        }
        if self.used.len() > 2 * self.values.len() + MIN_STALE_STAMPS {
            let values = &self.values;
            self.used
                .retain(|(key, stamp)| values.at(*key).is_some_and(|entry| entry.used == *stamp));
        }
    }

    fn forget(&mut self, id: CoValueId) {
        self.note_agreement(id);
        if let Some(entry) = self.values.remove(id) {
            self.warm_chains -= entry.index().map_or(0, |index| index.chains.len());
            self.unwatch_upstream(id, matches!(entry.presence, Presence::Absent));
        }
    }
}
