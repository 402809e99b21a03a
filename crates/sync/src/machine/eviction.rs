//! The bounds on CoValues and hash chains in memory: the least recently used are forgotten.

use downbeat_crypto::HashChain;
use downbeat_protocol::{CoValueId, SessionId};

use crate::machine::Machine;
use crate::state::entry::Entry;
use crate::state::presence::Presence;

/// Busy entries to pass over for each entry to forget.
const BUSY_PASSED_OVER: usize = 2;

impl Machine {
    /// Forgets the least recently used entries while there are too many.
    pub(in crate::machine) fn forget_unused(&mut self) {
        let bound = self.config.warm_co_values;
        let mut tries = BUSY_PASSED_OVER * self.values.len().saturating_sub(bound);
        while self.values.len() > bound && tries > 0 {
            let Some((key, stamp)) = self.entry_uses.pop() else { break };
            let Some(entry) = self.values.at_mut(key).filter(|entry| entry.last_use == stamp)
            else {
                continue;
            };
            tries -= 1;
            if entry.is_quiet() {
                self.forget(self.values.id(key));
            } else {
                // A busy entry counts as used now.
                self.stamp += 1;
                entry.last_use = self.stamp;
                self.entry_uses.push(key, self.stamp);
            }
        }
        let values = &self.values;
        self.entry_uses.compact(values.len(), |key, stamp| {
            values.at(*key).is_some_and(|entry| entry.last_use == stamp)
        });
    }

    fn forget(&mut self, id: CoValueId) {
        self.note_agreement(id);
        if let Some(entry) = self.values.remove(id) {
            self.warm_chains -= entry.index().map_or(0, |index| index.chains.len());
            self.unwatch_upstreams(id, matches!(entry.presence(), Presence::Absent));
        }
    }

    /// Keeps a hash chain, and forgets the least recently used ones while there are too many.
    pub(in crate::machine) fn keep_chain(
        &mut self,
        id: CoValueId,
        session: &SessionId,
        chain: HashChain,
    ) {
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        self.stamp += 1;
        let is_new = index.chains.insert(session.clone(), chain, self.stamp);
        self.warm_chains += usize::from(is_new);
        self.chain_uses.push((id, session.clone()), self.stamp);
        while self.warm_chains > self.config.warm_chains {
            let Some(((id, session), stamp)) = self.chain_uses.pop() else { break };
            if let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut)
                && index.chains.is_current(&session, stamp)
            {
                index.chains.take(&session);
                self.warm_chains -= 1;
            }
        }
        let values = &self.values;
        self.chain_uses.compact(self.warm_chains, |(id, session), stamp| {
            let index = values.get(id).and_then(Entry::index);
            index.is_some_and(|index| index.chains.is_current(session, stamp))
        });
    }

    /// Takes a session's hash chain for the verifier.
    pub(in crate::machine) fn take_chain(
        &mut self,
        id: CoValueId,
        session: &SessionId,
    ) -> Option<HashChain> {
        let chain = self.index_mut(id)?.chains.take(session)?;
        self.warm_chains -= 1;
        Some(chain)
    }
}
