//! Reconcile messages: a peer compares what it has in storage with what we have.
//!
//! A client that has the acknowledgement does not compare the CoValues of the batch again for weeks,
//! so it follows the disk: it is sent when all that the client has sent of them is durable.

use downbeat_core::known_state;
use downbeat_crypto::sessions_hash;
use downbeat_protocol::{CoValueId, KnownState, Message, Reconcile};

use crate::covalue::{Entry, Presence};
use crate::event::PeerId;
use crate::faults::Fault;
use crate::machine::Machine;
use crate::peer::Batch;
use crate::subscription::Standing;

/// Batches of one peer that may be open at the same time. A client sends the next batch when the
/// last one is acknowledged, so more than a few is no client.
pub(crate) const MAX_OPEN_BATCHES: usize = 16;

impl Machine {
    pub(crate) fn received_reconcile(&mut self, peer: PeerId, reconcile: Reconcile) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if state.batches.len() >= MAX_OPEN_BATCHES {
            state.batches.remove(0);
        }
        let open = reconcile.values.iter().map(|(id, _)| *id).collect();
        state.batches.push(Batch { id: reconcile.id, open });
        for (id, hash) in reconcile.values {
            match self.track(peer, id) {
                // What is not taken from the peer need not be asked for.
                Some(subscription) if subscription.standing == Standing::Good => {
                    subscription.owe_comparison(hash);
                    self.serve(peer, id);
                }
                _ => self.reconciled(peer, id),
            }
        }
        self.wake(peer);
    }

    /// The LOAD that a comparison calls for, if the peer has another state than we have.
    pub(crate) fn compare(&mut self, peer: PeerId, id: CoValueId) -> Option<Message> {
        let hash = self.subscription_mut(peer, id)?.take_comparison()?;
        let ours = match self.values.get(&id).and_then(Entry::index) {
            Some(index) => KnownState { header: index.header_durable, ..index.durable(id) },
            None => KnownState::empty(id),
        };
        if ours.header && sessions_hash(&ours.sessions) == hash {
            self.reconciled(peer, id);
            return None;
        }
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.told = true;
        }
        Some(Message::Load(ours))
    }

    /// A peer has sent something of a CoValue, or it was refused: where the CoValue is being compared,
    /// that answers our LOAD. Tells whether it is.
    pub(crate) fn compared(&mut self, peer: PeerId, id: CoValueId) -> bool {
        let Some(state) = self.peers.get(&peer) else { return false };
        let is_open = state.batches.iter().any(|batch| batch.open.contains(&id));
        if is_open {
            let comparing = &mut self.entry(id).comparing;
            if !comparing.contains(&peer) {
                comparing.push(peer);
            }
            if self.has_fault(Fault::ReconcileEarly) {
                self.reconciled(peer, id);
            }
        }
        is_open
    }

    /// Takes a CoValue out of each batch whose sender has nothing more of it than is durable.
    pub(crate) fn finish_comparisons(&mut self, id: CoValueId) {
        let Some(entry) = self.values.get_mut(&id) else { return };
        if entry.comparing.is_empty() {
            return;
        }
        let mut comparing = std::mem::take(&mut entry.comparing);
        comparing.retain(|peer| {
            let is_open = self.peers.contains_key(peer) && !self.has_all_of(*peer, id);
            if !is_open {
                self.reconciled(*peer, id);
            }
            is_open
        });
        if let Some(entry) = self.values.get_mut(&id) {
            entry.comparing = comparing;
        }
    }

    /// Whether everything that a peer has of a CoValue is durable, but for what is not taken from it.
    fn has_all_of(&self, peer: PeerId, id: CoValueId) -> bool {
        let Some(subscription) = self.subscription(peer, id) else { return true };
        if self.is_sending(peer, id) {
            return false;
        }
        let theirs = subscription.known();
        let Some(entry) = self.values.get(&id) else { return false };
        match &entry.presence {
            Presence::Loading | Presence::Unknown(_) => false,
            Presence::Asking(_) | Presence::Absent => {
                !theirs.header || subscription.standing != Standing::Good
            }
            Presence::Here(index) if index.outdated || !index.may_be_told() => false,
            Presence::Here(index) => {
                let missing = known_state::missing(theirs.sessions, &index.durable(id).sessions);
                let is_refused = |session| subscription.has_refused(session);
                index.deleted
                    || subscription.is_errored()
                    || missing.iter().all(|(session, _)| is_refused(session))
            }
        }
    }

    /// A CoValue has been brought up to date with a peer.
    fn reconciled(&mut self, peer: PeerId, id: CoValueId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !state.batches.is_empty() {
            state.reconciled(id);
            self.wake(peer);
        }
    }
}
