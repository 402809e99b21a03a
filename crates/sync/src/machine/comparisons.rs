//! CoValues that are compared with a peer after a reconcile message.

use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, KnownState, Message};

use crate::event::PeerId;
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::state::presence::Presence;

impl Machine {
    /// The LOAD that follows from a comparison, if the peer has another state than we have.
    pub(in crate::machine) fn compare(&mut self, peer: PeerId, id: CoValueId) -> Option<Message> {
        let hash = self.subscription_mut(peer, id)?.take_comparison()?;
        if let Some(state) = self.peers.get_mut(&peer) {
            state.batches.end_comparison();
        }
        self.queue_comparisons(peer);
        let is_equal = self
            .index_mut(id)
            .is_some_and(|index| index.is_header_durable() && index.durable_hash() == hash);
        if is_equal {
            self.reconciled(peer, id);
            self.untrack(peer, id);
            return None;
        }
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.mark_told_some();
        }
        let ours = self.index(id).map_or_else(
            || KnownState::empty(id),
            |index| KnownState { header: index.is_header_durable(), ..index.durable_state(id) },
        );
        Some(Message::Load(ours))
    }

    /// A peer has sent something of a CoValue, or it was refused. If the CoValue is being compared,
    /// that answers our LOAD. Returns whether it is.
    pub(in crate::machine) fn compared(&mut self, peer: PeerId, id: CoValueId) -> bool {
        let is_open = self.peers.get(&peer).is_some_and(|state| state.batches.is_comparing(id));
        if is_open {
            self.entry(id).add_comparing(peer);
            if self.has_bug(InjectedBug::ReconcileEarly) {
                self.reconciled(peer, id);
            }
        }
        is_open
    }

    /// Takes a CoValue out of each batch whose sender has no more of it than is durable.
    pub(in crate::machine) fn finish_comparisons(&mut self, id: CoValueId) {
        if self.values.get(&id).is_none_or(|entry| !entry.is_compared()) {
            return;
        }
        let Some(entry) = self.values.get_mut(&id) else { return };
        let mut comparing = entry.take_comparing();
        comparing.retain(|peer| {
            let is_open = self.peers.contains_key(peer) && !self.has_all_of(*peer, id);
            if !is_open {
                self.reconciled(*peer, id);
            }
            is_open
        });
        if let Some(entry) = self.values.get_mut(&id) {
            entry.set_comparing(comparing);
        }
    }

    /// Whether everything that a peer has of a CoValue is durable, except for refused content.
    pub(in crate::machine) fn has_all_of(&self, peer: PeerId, id: CoValueId) -> bool {
        let Some(subscription) = self.subscription(peer, id) else { return true };
        if self.is_sending(peer, id) {
            return false;
        }
        let theirs = subscription.known();
        let standing = subscription.standing();
        match self.presence(id) {
            None | Some(Presence::Loading | Presence::Unknown(_)) => false,
            Some(Presence::Asking(_) | Presence::Absent) => !theirs.header || !standing.is_good(),
            Some(Presence::Here(index)) if index.is_outdated() || !index.may_send_known() => false,
            Some(Presence::Here(index)) => {
                let mut missing = known_state::ahead(theirs.sessions, index.durable());
                let is_refused = |session| subscription.has_refused(session);
                index.is_deleted()
                    || standing.is_errored()
                    || missing.all(|(session, ..)| is_refused(session))
            }
        }
    }

    /// A CoValue is up to date with a peer.
    pub(in crate::machine) fn reconciled(&mut self, peer: PeerId, id: CoValueId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if state.batches.finish(id) {
            self.peers.make_ready(peer);
        }
    }
}
