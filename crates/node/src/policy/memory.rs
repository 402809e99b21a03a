//! The policy's memory, which is bounded.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_protocol::{AgentId, CoValueId};
use downbeat_storage::cache::GenerationCache;
use rustc_hash::FxBuildHasher;

use super::refused::Refused;

/// CoValues that are remembered of each kind, twice: some MiB.
const REMEMBERED: usize = 50_000;

/// A map that keeps the keys that were used last.
pub(super) type Recent<K, V> = GenerationCache<K, V, REMEMBERED, FxBuildHasher>;

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
            self.unwanted.remove(&id);
            self.refused.remove(&id);
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

#[cfg(test)]
mod tests {
    use super::*;

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
