//! The bounds on CoValues and hash chains in memory: the least recently used are forgotten.

use downbeat_crypto::HashChain;
use downbeat_protocol::{CoValueId, SessionId};

use crate::config::Config;
use crate::machine::Machine;
use crate::state::entry::Entry;
use crate::state::presence::Presence;

/// Entries that are forgotten at once. So that a bound that is suddenly exceeded by far delays no
/// event, the others follow with the next polls.
const FORGOTTEN_AT_ONCE: usize = 1_024;

impl Machine {
    /// Forgets the least recently used entries while there are too many. Busy ones are not looked
    /// at: they are on the list of those that can be forgotten when they have become quiet.
    pub(in crate::machine) fn forget_unused(&mut self) {
        self.values.settle();
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some(id) = self.next_to_forget() else { return };
            self.forget(id);
        }
    }

    /// The next entry to forget, if there are too many.
    pub(in crate::machine) fn next_to_forget(&self) -> Option<CoValueId> {
        let Config { warm_co_values, warm_bytes, .. } = self.config;
        let are_too_many =
            self.values.len() > warm_co_values || self.values.bytes().all > warm_bytes;
        if are_too_many { self.values.least_recently_used() } else { None }
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

#[cfg(test)]
mod tests {
    use downbeat_protocol::{KnownState, Message};

    use super::*;
    use crate::action::Action;
    use crate::event::{Event, PeerId, PeerRole};

    const PEER: PeerId = PeerId(1);
    const BOUND: u32 = 1_000;

    fn id(number: u32) -> CoValueId {
        let mut hash = [1; 19];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        CoValueId::from_short_hash(&hash)
    }

    fn load(machine: &mut Machine, number: u32) {
        let message = Message::Load(KnownState::empty(id(number)));
        machine.handle(0, Event::Received { peer: PEER, message });
    }

    fn machine() -> Machine {
        let warm_co_values = BOUND as usize;
        let mut machine = Machine::new(Config { warm_co_values, ..Config::default() });
        machine.handle(0, Event::Connected { peer: PEER, role: PeerRole::Client });
        machine
    }

    /// Polls, carries the actions out, and returns how many entries were looked at.
    fn poll(machine: &mut Machine, answers_loads: bool) -> usize {
        machine.values.steps.set(0);
        let mut actions = Vec::new();
        machine.poll(&mut actions);
        for action in actions {
            match action {
                Action::Load(id) if answers_loads => {
                    machine.handle(0, Event::Loaded { id, result: Ok(None) });
                }
                Action::Turn { peer, .. } => {
                    machine.handle(0, Event::TurnDone { peer, progress: Vec::new() });
                }
                _ => {}
            }
        }
        machine.values.steps.get()
    }

    #[test]
    fn busy_entries_at_twice_the_bound_are_not_walked_over() {
        let mut machine = machine();
        for number in 0..2 * BOUND {
            load(&mut machine, number);
        }
        poll(&mut machine, false);
        assert_eq!(machine.warm_co_values(), 2 * BOUND as usize);
        for number in 2 * BOUND..3 * BOUND {
            load(&mut machine, number);
            let steps = poll(&mut machine, true) + poll(&mut machine, true);
            assert!(steps <= 12, "{steps} steps at {number}");
        }
        assert_eq!(machine.warm_co_values(), 2 * BOUND as usize, "what was quiet is forgotten");
    }

    #[test]
    fn entries_that_become_quiet_are_forgotten_in_constant_time_each() {
        let mut machine = machine();
        for number in 0..3 * BOUND {
            load(&mut machine, number);
        }
        poll(&mut machine, false);
        for number in 0..3 * BOUND {
            machine.handle(0, Event::Loaded { id: id(number), result: Ok(None) });
            let steps = poll(&mut machine, true) + poll(&mut machine, true);
            assert!(steps <= 12, "{steps} steps at {number}");
        }
        assert_eq!(machine.warm_co_values(), BOUND as usize);
    }
}
