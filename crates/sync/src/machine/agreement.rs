//! The part of a subscription that is kept when its CoValue is forgotten.
//!
//! Most subscriptions are to CoValues that are not written any longer, and the peer has all of
//! them. Their counts need not be kept for each peer, nor at all: a hash of the counts, kept with
//! the CoValue, tells when it comes back from storage whether it is still what those peers have.

use std::hash::{Hash, Hasher};

use downbeat_protocol::{CoValueId, KnownState, SessionCounts};
use rustc_hash::FxHasher;

use crate::event::PeerId;
use crate::machine::Machine;
use crate::state::entry::Entry;
use crate::state::index::Index;
use crate::state::subscription::Subscription;

impl Machine {
    /// A CoValue is about to be forgotten: of the clients that have exactly what we have, only
    /// that is kept. The counts of upstreams are kept, because they are needed while CoValues are
    /// not in memory.
    pub(in crate::machine) fn note_agreement(&mut self, id: CoValueId) {
        let Some(key) = self.values.key(id) else { return };
        let Some(index) = self.values.get(&id).and_then(Entry::index) else { return };
        let mut is_agreed = false;
        for peer in self.values.subscribers(id) {
            if let Some(state) = self.peers.get_mut(peer).filter(|state| state.is_client())
                && let Some(subscription) = state.subscription_mut(key)
            {
                let agrees = subscription.agree(index.verified());
                is_agreed |= agrees;
                if agrees {
                    state.claims.set(key, 0);
                }
            }
        }
        if is_agreed {
            let agreed = agreement(index.verified());
            self.values.set_agreed(id, agreed);
        }
    }

    /// A CoValue has come back from storage, or is no longer there. If another writer has changed
    /// it, the peers that agreed are taken to have nothing: they are sent what they have once
    /// more, and say so.
    pub(in crate::machine) fn recall_agreement(&mut self, id: CoValueId) {
        let Some(key) = self.values.key(id) else { return };
        let ours = self.values.get(&id).and_then(Entry::index).map(Index::verified);
        let stored = ours.filter(|stored| self.values.agreed(id) == Some(agreement(stored)));
        for peer in self.values.subscribers(id) {
            if let Some(subscription) = self.peers.subscription_mut(*peer, key) {
                subscription.recall(stored, ours);
            }
        }
    }

    /// Makes the counts that a peer states share the memory of ours, or of those that it has stated
    /// before, if they differ in few sessions. All later comparisons cost less then.
    pub(in crate::machine) fn rebase(&self, peer: PeerId, state: &mut KnownState) {
        let before = || self.subscription(peer, state.id).map(|before| before.known().sessions);
        let base = self.index(state.id).map(Index::verified).or_else(before);
        if let Some(base) = base {
            state.sessions.rebase(base);
        }
    }

    /// Whether the counts that a peer states of a forgotten CoValue are those that it is known to
    /// have.
    pub(in crate::machine) fn is_agreed(&self, peer: PeerId, state: &KnownState) -> bool {
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
