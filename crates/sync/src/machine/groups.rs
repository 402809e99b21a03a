//! The groups that decide over a CoValue, and the deletions that they have refused.

use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, Header, Ruleset};
use rustc_hash::FxHashSet;

use crate::event::PeerId;
use crate::machine::Machine;
use crate::state::index::Index;

/// Groups that one deletion watches. A group has a few parents, which have a few as well. If there
/// are more, the deletion is judged when one of these changes, or by the next deletion.
const MAX_WATCHED_GROUPS: usize = 1_000;

impl Machine {
    /// The groups that decide over a CoValue, as far as they are known in memory: the owning one
    /// and its dependencies, except for accounts. A CoValue that is not in memory may be a group.
    pub(in crate::machine) fn deciding_groups(&self, header: &Header) -> Vec<CoValueId> {
        let Ruleset::OwnedByGroup { group } = header.ruleset() else { return Vec::new() };
        let mut seen = FxHashSet::default();
        let mut groups = Vec::new();
        let mut open = vec![*group];
        while let Some(id) = open.pop() {
            if groups.len() >= MAX_WATCHED_GROUPS {
                break;
            }
            let is_no_group = |index: &Index| {
                !index.header().is_group() || index.header().account_agent().is_some()
            };
            if !seen.insert(id) || self.index(id).is_some_and(is_no_group) {
                continue;
            }
            groups.push(id);
            if let Some(entry) = self.values.get(&id) {
                open.extend(entry.dependencies().as_slice());
            }
        }
        groups
    }

    /// The deletions that a group has refused, and that wait for more of it.
    pub(in crate::machine) fn refused_by(&self, group: CoValueId) -> Vec<(CoValueId, PeerId)> {
        let Some(entry) = self.values.get(&group) else { return Vec::new() };
        let dependants = entry.refused_dependants().iter().copied();
        dependants.filter(|(id, peer)| self.is_holding_refused(*peer, *id)).collect()
    }

    /// There is more of a group: deletions that it has refused are judged again.
    pub(in crate::machine) fn judge_again(&mut self, group: CoValueId) {
        let refused = self.refused_by(group);
        self.retries.extend(refused);
    }

    /// A group has been looked up: deletions that it has refused wait for more of its parents as
    /// well.
    pub(in crate::machine) fn watch_parents(&mut self, group: CoValueId) {
        for (id, peer) in self.refused_by(group) {
            let Some(header) = self.index(id).map(|index| index.header().clone()) else { continue };
            for parent in self.deciding_groups(&header) {
                self.also_await(peer, id, parent);
            }
        }
    }

    /// Whether a peer that was asked for a group has answered that it has no more of it than is
    /// stored here.
    pub(in crate::machine) fn has_no_more(&self, peer: PeerId, group: CoValueId) -> bool {
        let Some(subscription) = self.subscription(peer, group) else { return false };
        let known = subscription.known();
        let is_all_here = match self.index(group) {
            Some(index) => {
                index.is_settled() && known_state::is_subset(known.sessions, index.verified())
            }
            None => !known.header,
        };
        !subscription.is_asked() && is_all_here && !self.is_holding(peer, group)
    }

    pub(in crate::machine) fn stored_transactions(&self, id: CoValueId) -> Option<u64> {
        self.index(id).map(Index::durable_transactions)
    }
}
