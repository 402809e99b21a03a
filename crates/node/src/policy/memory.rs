//! The policy's memory, which is bounded.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_protocol::{AgentId, CoValueId};
use rustc_hash::FxHashMap;

use super::refused::Refused;

/// CoValues that are remembered of each kind, twice: some MiB.
const REMEMBERED: usize = 50_000;

/// How long a CoValue stays unwanted once no listed account has to do with it. A client that asks
/// repeatedly does not make the node fetch it from an upstream each time.
const UNWANTED_TIME: Duration = Duration::from_mins(1);

/// How long it counts who has a role in a group, where the group does not pass by.
const STANDING_TIME: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Memory {
    /// The list of accounts that all of this was found out for.
    listed: Arc<BTreeSet<CoValueId>>,
    /// CoValues that were found in storage. What has been let in may still turn out to be forged.
    pub here: Recent<CoValueId, ()>,
    /// CoValues that something depends on that has been let in.
    pub needed: Recent<CoValueId, ()>,
    /// Bytes that others have stored in a CoValue.
    pub others: Recent<CoValueId, u64>,
    /// The agents of listed accounts whose headers have been let in.
    pub agents: Recent<CoValueId, AgentId>,
    /// What was refused of clients' content.
    pub refused: Recent<CoValueId, Refused>,
    /// CoValues for which a refusal has been logged, with the reason.
    pub told: Recent<(CoValueId, &'static str), ()>,
    unwanted: Recent<CoValueId, Instant>,
    standing: Recent<CoValueId, (bool, Instant)>,
}

impl Memory {
    /// Forgets what was found out for another list of accounts.
    pub(super) fn is_for(&mut self, listed: &Arc<BTreeSet<CoValueId>>) {
        if !Arc::ptr_eq(&self.listed, listed) {
            let others = std::mem::take(&mut self.others);
            *self = Self { listed: Arc::clone(listed), others, ..Self::default() };
        }
    }

    /// Whether the operator has not been told yet that something of a CoValue was refused, and why.
    pub(super) fn is_news(&mut self, id: CoValueId, reason: &'static str) -> bool {
        let is_news = !self.told.contains(&(id, reason));
        if is_news {
            self.told.insert((id, reason), ());
        }
        is_news
    }

    pub(super) fn set_unwanted(&mut self, id: CoValueId) {
        self.unwanted.insert(id, Instant::now());
    }

    pub(super) fn is_unwanted(&mut self, id: CoValueId) -> bool {
        let since = self.unwanted.get(&id).copied();
        since.is_some_and(|since| since.elapsed() < UNWANTED_TIME)
    }

    /// Something depends on these, so that they are wanted.
    pub(super) fn need(&mut self, ids: impl IntoIterator<Item = CoValueId>) {
        for id in ids {
            self.needed.insert(id, ());
            self.unwanted.take(&id);
            self.refused.take(&id);
        }
    }

    /// Whether a group gives a listed account a role, or not, or that has to be found out.
    pub(super) fn standing(&mut self, group: CoValueId) -> Option<bool> {
        let (is_ours, since) = self.standing.get(&group).copied()?;
        (since.elapsed() < STANDING_TIME).then_some(is_ours)
    }

    pub(super) fn set_standing(&mut self, group: CoValueId, is_ours: bool) {
        self.standing.insert(group, (is_ours, Instant::now()));
    }
}

/// A map that forgets what has not been asked for since so many others were.
pub(super) struct Recent<K, V> {
    young: FxHashMap<K, V>,
    old: FxHashMap<K, V>,
    bound: usize,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { young: FxHashMap::default(), old: FxHashMap::default(), bound: REMEMBERED }
    }
}

impl<K: Eq + Hash + Copy, V> Recent<K, V> {
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.bound {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        if let Some(value) = self.old.remove(key) {
            self.insert(*key, value);
        }
        self.young.get(key)
    }

    pub(super) fn contains(&mut self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Forgets a key.
    pub(super) fn take(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_forgotten() {
        let mut recent = Recent { bound: 10, ..Recent::default() };
        for key in 0..1_000 {
            recent.insert(key, key);
            assert!(recent.contains(&0), "{key}");
        }
        assert!(recent.young.len() + recent.old.len() <= 20);
        assert!(!recent.contains(&500));
    }

    #[test]
    fn another_list_of_accounts_begins_anew_but_for_what_is_counted() {
        let (one, mut memory) = ("co_z1".parse().unwrap(), Memory::default());
        let list = Arc::new(BTreeSet::from([one]));
        memory.is_for(&list);
        memory.need([one]);
        memory.others.insert(one, 7);
        memory.is_for(&list);
        assert!(memory.needed.contains(&one));
        memory.is_for(&Arc::default());
        assert!(!memory.needed.contains(&one));
        assert_eq!(memory.others.get(&one), Some(&7));
    }
}
