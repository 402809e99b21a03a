//! Access to the state: entries, indexes and subscriptions; and the queues for turns.

use downbeat_protocol::{CoValueId, KnownState, Priority, SessionCounts, SessionId};

use crate::action::Action;
use crate::credit::Credit;
use crate::event::PeerId;
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::rejection::Rejection;
use crate::report::Report;
use crate::state::backlog::Audience;
use crate::state::entry::Entry;
use crate::state::index::Index;
use crate::state::peer::Peer;
use crate::state::presence::{Change, Presence};
use crate::state::subscription::Subscription;

impl Machine {
    /// The entry of a CoValue. If there is none, it is made, and storage is asked.
    pub(in crate::machine) fn entry(&mut self, id: CoValueId) -> &mut Entry {
        let actions = &mut self.actions;
        self.values.get_or_insert_with(id, || {
            actions.push(Action::Load(id));
            Entry::loading()
        })
    }

    /// A CoValue that is here, and in memory.
    pub(in crate::machine) fn index(&self, id: CoValueId) -> Option<&Index> {
        self.values.get(&id).and_then(Entry::index)
    }

    pub(in crate::machine) fn index_mut(&mut self, id: CoValueId) -> Option<&mut Index> {
        self.values.get_mut(&id).and_then(Entry::index_mut)
    }

    /// The presence of a CoValue in memory.
    pub(in crate::machine) fn presence(&self, id: CoValueId) -> Option<&Presence> {
        self.values.get(&id).map(Entry::presence)
    }

    /// Changes the presence of a CoValue in memory. Returns whether it became another one.
    pub(in crate::machine) fn change_presence(
        &mut self,
        id: CoValueId,
        change: Change<'_>,
    ) -> bool {
        self.values.get_mut(&id).is_some_and(|entry| entry.change(change))
    }

    /// Whether a peer is connected, and a client.
    pub(in crate::machine) fn is_client(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(Peer::is_client)
    }

    /// Whether a peer is connected, and an upstream.
    pub(in crate::machine) fn is_upstream(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| !peer.is_client())
    }

    pub(in crate::machine) fn subscription(
        &self,
        peer: PeerId,
        id: CoValueId,
    ) -> Option<&Subscription> {
        self.peers.get(&peer)?.subscription(self.values.key(id)?)
    }

    pub(in crate::machine) fn subscription_mut(
        &mut self,
        peer: PeerId,
        id: CoValueId,
    ) -> Option<&mut Subscription> {
        self.peers.subscription_mut(peer, self.values.key(id)?)
    }

    /// A peer's subscription to a CoValue, made if there is none. `None` if the peer may have no
    /// more subscriptions, or is gone.
    pub(in crate::machine) fn track(
        &mut self,
        peer: PeerId,
        id: CoValueId,
    ) -> Option<&mut Subscription> {
        let state = self.peers.get(&peer)?;
        let key = self.values.key(id).filter(|key| state.subscription(*key).is_some());
        if let Some(key) = key {
            return self.peers.subscription_mut(peer, key);
        }
        let bound = self.config.subscriptions_per_peer;
        if state.is_client() && state.subscription_count() >= bound {
            self.report(Report::new(peer, id, Rejection::TooManySubscriptions));
            return None;
        }
        let key = self.values.subscribe(id, peer);
        Some(self.peers.get_mut(&peer)?.subscribe(key))
    }

    /// Forgets a client's subscription that only served a comparison.
    pub(in crate::machine) fn untrack(&mut self, peer: PeerId, id: CoValueId) {
        let Some(key) = self.values.key(id) else { return };
        let Some(state) = self.peers.get_mut(&peer).filter(|state| state.is_client()) else {
            return;
        };
        if state.subscription(key).is_some_and(Subscription::is_blank) {
            state.unsubscribe(key);
            self.values.unsubscribe(id, peer);
        }
    }

    /// The same, and the peer gets what is new of the CoValue from now on.
    pub(in crate::machine) fn subscribe(
        &mut self,
        peer: PeerId,
        id: CoValueId,
    ) -> Option<&mut Subscription> {
        let subscription = self.track(peer, id)?;
        subscription.subscribe();
        Some(subscription)
    }

    /// Queues a CoValue for a peer's next turn. What the peer gets of it is decided when the turn
    /// is built.
    pub(in crate::machine) fn enqueue(&mut self, peer: PeerId, id: CoValueId) {
        if let Some(key) = self.values.key(id) {
            self.peers.enqueue(peer, key, self.priority(id), Audience::All);
        }
    }

    /// The priority of a CoValue in the queues.
    pub(in crate::machine) fn priority(&self, id: CoValueId) -> Priority {
        self.values.get(&id).map_or(Priority::Medium, Entry::priority)
    }

    /// Whether content of a CoValue that a peer has sent is being verified, or waits.
    pub(in crate::machine) fn is_sending(&self, peer: PeerId, id: CoValueId) -> bool {
        let Some(entry) = self.values.get(&id) else { return false };
        entry.has_pending_of(peer)
            || entry.held.contains(peer)
            || entry.index().is_some_and(|index| index.is_verifying(peer))
    }

    /// The state of a CoValue that a LOAD states.
    pub(in crate::machine) fn our_state(&self, id: CoValueId) -> KnownState {
        self.index(id).map_or_else(|| KnownState::empty(id), |index| index.durable_state(id))
    }

    pub(in crate::machine) fn report(&mut self, report: Report) {
        self.actions.push(Action::Report(report));
    }

    pub(in crate::machine) fn release(&mut self, credit: Credit) {
        let peer = credit.peer();
        let bytes = credit.into_bytes();
        if bytes > 0 {
            self.actions.push(Action::Release { peer, bytes });
        }
    }

    /// Whether a peer lacks content of a CoValue that is here.
    pub(in crate::machine) fn lacks(&self, peer: PeerId, id: CoValueId) -> bool {
        let Some(index) = self.index(id) else { return false };
        self.subscription(peer, id).is_none_or(|subscription| subscription.lacks(index.verified()))
    }

    /// Whether content from a peer waits already, so that the content behind it has to wait too.
    pub(in crate::machine) fn is_holding(&self, peer: PeerId, id: CoValueId) -> bool {
        self.values.get(&id).is_some_and(|entry| entry.held.contains(peer))
    }

    /// Whether content from a peer waits that was refused.
    pub(in crate::machine) fn is_holding_refused(&self, peer: PeerId, id: CoValueId) -> bool {
        self.values.get(&id).is_some_and(|entry| entry.held.has_refused_of(peer))
    }

    /// A peer has this much of a session, which it has sent.
    pub(in crate::machine) fn peer_has(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        session: &SessionId,
        count: u64,
    ) {
        let Some(key) = self.values.key(id) else { return };
        let ours = self.values.get(&id).and_then(Entry::index).map(Index::verified);
        let Some(subscription) = self.peers.subscription_mut(peer, key) else { return };
        let sent = SessionCounts::from_iter([(session.clone(), count)]);
        subscription.merge_sent(true, &sent, ours);
        let theirs = subscription.known().sessions;
        if ours.is_some_and(|ours| theirs.is_shared_with(ours)) {
            self.peers.set_claim(peer, key, 0);
        }
    }

    /// A peer's content of one session was refused. The rest that the peer has announced of it
    /// will not come.
    pub(in crate::machine) fn refuse_session(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        session: SessionId,
    ) {
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.refuse_session(session);
        }
        if let Some(index) = self.index_mut(id) {
            index.expect_nothing_from(peer);
        }
    }

    /// A peer has sent bad content of a CoValue. The rest that the peer has announced of it would
    /// be ignored.
    pub(in crate::machine) fn mark_errored(&mut self, peer: PeerId, id: CoValueId) {
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.mark_errored();
        }
        if let Some(index) = self.index_mut(id) {
            index.expect_nothing_from(peer);
        }
    }
}

#[cfg(feature = "faults")]
impl Machine {
    pub(in crate::machine) fn has_bug(&self, bug: InjectedBug) -> bool {
        self.bug == Some(bug)
    }
}

#[cfg(not(feature = "faults"))]
impl Machine {
    #[allow(clippy::unused_self, reason = "with the feature it is looked up")]
    pub(in crate::machine) const fn has_bug(&self, _bug: InjectedBug) -> bool {
        false
    }
}
