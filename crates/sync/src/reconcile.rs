//! Reconcile messages: a peer compares what it has in storage with what we have.

use downbeat_crypto::sessions_hash;
use downbeat_protocol::{CoValueId, KnownState, Message, Reconcile};

use crate::covalue::Entry;
use crate::event::PeerId;
use crate::machine::Machine;
use crate::peer::Batch;

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
                Some(subscription) if !subscription.errored => {
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

    /// A CoValue has been brought up to date with a peer.
    pub(crate) fn reconciled(&mut self, peer: PeerId, id: CoValueId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !state.batches.is_empty() {
            state.reconciled(id);
            self.wake(peer);
        }
    }
}
