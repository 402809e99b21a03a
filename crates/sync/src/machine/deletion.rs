//! Deletions: those that wait until the owning group is stored, and those that wait for more of
//! it.
//!
//! The stored part of the owning group decides who may delete. That part may be old or incomplete,
//! so that an admin looks like a stranger. A deletion that is refused for its author's role
//! therefore waits, like content that lacks a dependency, and is judged again when there is more
//! of the groups. Its sender, which must have a reason to believe in it, is asked for them.

use downbeat_core::delete::{self, Claim};
use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, Header, Ruleset, SessionContent};
use rustc_hash::FxHashSet;

use crate::event::PeerId;
use crate::machine::Machine;
use crate::rejection::Rejection;
use crate::state::index::Index;
use crate::state::pending::PendingContent;

/// Groups that one deletion watches. A group has a few parents, which have a few as well. If there
/// are more, the deletion is judged when one of these changes, or by the next deletion.
const MAX_GROUPS: usize = 1_000;

impl Machine {
    /// The claim to delete the CoValue that runs make, checked as far as that is possible without
    /// the group's history.
    pub(super) fn claim(
        &self,
        id: CoValueId,
        runs: &[SessionContent],
    ) -> Result<Option<Claim>, Rejection> {
        let Some(index) = self.index(id) else { return Ok(None) };
        for run in runs {
            let claim =
                delete::claim(id, index.header(), &run.session, run.after, &run.transactions)?;
            if claim.is_some() {
                return Ok(claim);
            }
        }
        Ok(None)
    }

    /// Puts content that deletes aside until the owning group, and the groups that it depends on,
    /// are stored. Returns the content if there is nothing to wait for.
    pub(super) fn park_deletion(
        &mut self,
        header: &Header,
        pending: PendingContent,
    ) -> Option<PendingContent> {
        let deletes = pending.content.sessions.iter().any(|run| run.session.is_delete());
        let unsettled = if deletes { self.unsettled_group(header) } else { None };
        let Some(group) = unsettled.and_then(|group| self.index_mut(group)) else {
            return Some(pending);
        };
        let id = pending.id();
        group.park(pending);
        // The CoValue itself is needed again then.
        self.entry(id).park();
        None
    }

    /// Everything of a group is stored: goes on with the deletions that waited for that.
    pub(super) fn take_parked(&mut self, group: CoValueId) {
        let Some(index) = self.index_mut(group) else { return };
        for pending in index.take_parked() {
            let id = pending.id();
            self.entry(id).unpark();
            self.take_content(pending);
            self.finish_comparisons(id);
        }
    }

    /// A group that decides over a CoValue, and is not stored completely yet.
    fn unsettled_group(&self, header: &Header) -> Option<CoValueId> {
        let is_unsettled = |index: &Index| !index.is_settled();
        self.deciding_groups(header)
            .into_iter()
            .find(|id| self.index(*id).is_some_and(is_unsettled))
    }

    /// The groups that decide over a CoValue, as far as they are known in memory: the owning one
    /// and its dependencies, except for accounts. A CoValue that is not in memory may be a group.
    pub(super) fn deciding_groups(&self, header: &Header) -> Vec<CoValueId> {
        let Ruleset::OwnedByGroup { group } = header.ruleset() else { return Vec::new() };
        let mut seen = FxHashSet::default();
        let mut groups = Vec::new();
        let mut open = vec![*group];
        while let Some(id) = open.pop() {
            if groups.len() >= MAX_GROUPS {
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

    /// There is more of a group: deletions that it has refused are judged again.
    pub(super) fn judge_again(&mut self, group: CoValueId) {
        let refused = self.refused_by(group);
        self.retries.extend(refused);
    }

    /// A group has been looked up: deletions that it has refused wait for more of its parents as
    /// well.
    pub(super) fn watch_parents(&mut self, group: CoValueId) {
        for (id, peer) in self.refused_by(group) {
            let Some(header) = self.index(id).map(|index| index.header().clone()) else { continue };
            for parent in self.deciding_groups(&header) {
                self.also_await(peer, id, parent);
            }
        }
    }

    /// A peer states what it has of a group. If it has no more than is here, its refused deletions
    /// remain refused.
    pub(super) fn answered_for_group(&mut self, peer: PeerId, group: CoValueId) {
        for (id, _) in self.refused_by(group).into_iter().filter(|(_, other)| *other == peer) {
            let Some(header) = self.index(id).map(|index| index.header().clone()) else { continue };
            let groups = self.deciding_groups(&header);
            if groups.into_iter().all(|group| self.has_no_more(peer, group)) {
                self.give_up_refused(peer, id);
            }
        }
    }

    /// Whether a peer that was asked for a group has answered that it has no more of it than is
    /// stored here.
    fn has_no_more(&self, peer: PeerId, group: CoValueId) -> bool {
        let Some(subscription) = self.subscription(peer, group) else { return false };
        let known = subscription.known();
        let is_all_here = match self.index(group) {
            Some(index) => {
                let missing = known_state::missing(known.sessions, index.verified());
                index.is_settled() && missing.is_empty()
            }
            None => !known.header,
        };
        !subscription.is_asked() && is_all_here && !self.is_holding(peer, group)
    }

    /// The deletions that a group has refused, and that wait for more of it.
    fn refused_by(&self, group: CoValueId) -> Vec<(CoValueId, PeerId)> {
        let Some(entry) = self.values.get(&group) else { return Vec::new() };
        let dependants = entry.dependants().iter().copied();
        dependants.filter(|(id, peer)| self.is_holding_refused(*peer, *id)).collect()
    }
}
