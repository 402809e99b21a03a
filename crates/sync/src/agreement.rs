//! What is kept of a subscription when its CoValue is forgotten.
//!
//! Most subscriptions are to CoValues that nobody writes any longer, and of which the peer has all
//! that there is. Their counts need not be kept once for each peer, nor at all: a hash of the
//! counts, kept with the CoValue, tells when it comes back from storage whether it is still what
//! those peers have.

use std::hash::{Hash, Hasher};

use downbeat_protocol::{CoValueId, KnownState, SessionCounts};
use rustc_hash::FxHasher;

use crate::covalue::{Entry, Index};
use crate::event::PeerId;
use crate::machine::Machine;
use crate::subscription::Subscription;

impl Machine {
    /// A CoValue is about to be forgotten: of clients that have exactly what we have, only that is
    /// kept. What upstreams have is looked up while CoValues are not in memory.
    pub(crate) fn note_agreement(&mut self, id: CoValueId) {
        let Some(key) = self.values.key(id) else { return };
        let Some(index) = self.values.get(&id).and_then(Entry::index) else { return };
        let mut is_agreed = false;
        for peer in self.values.subscribers(id) {
            if let Some(state) = self.peers.get_mut(peer).filter(|state| state.upstream.is_none())
                && let Some(subscription) = state.subscriptions.get_mut(&key)
            {
                is_agreed |= subscription.agree(index.verified());
            }
        }
        if is_agreed {
            let agreed = agreement(index.verified());
            self.values.set_agreed(id, agreed);
        }
    }

    /// A CoValue has come back from storage, or is not there any longer. Where it is not what was
    /// agreed on, because somebody else writes to the same storage, the peers that agreed are
    /// taken to have nothing: they are sent what they have once more, and say so.
    pub(crate) fn recall_agreement(&mut self, id: CoValueId) {
        let Some(key) = self.values.key(id) else { return };
        let stored = self.values.get(&id).and_then(Entry::index).map(Index::verified);
        let stored = stored.filter(|stored| self.values.agreed(id) == Some(agreement(stored)));
        for peer in self.values.subscribers(id) {
            if let Some(state) = self.peers.get_mut(peer)
                && let Some(subscription) = state.subscriptions.get_mut(&key)
            {
                subscription.recall(stored);
            }
        }
    }

    /// Whether what a peer says that it has of a forgotten CoValue is what it is known to have.
    pub(crate) fn is_agreed(&self, peer: PeerId, state: &KnownState) -> bool {
        self.subscription(peer, state.id).is_some_and(Subscription::agrees)
            && state.header
            && self.values.agreed(state.id) == Some(agreement(&state.sessions))
    }
}

fn agreement(sessions: &SessionCounts) -> u64 {
    let mut hasher = FxHasher::default();
    for entry in sessions {
        entry.hash(&mut hasher);
    }
    hasher.finish()
}
