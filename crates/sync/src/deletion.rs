//! Deletions: what is told of them without the owning group's history, waiting until that history
//! is stored, and waiting for more of it.
//!
//! Who may delete is judged by what is stored of the group. That may be old, or only a part: then
//! an admin looks like a stranger. So a deletion that is refused for its author's role is nobody's
//! fault yet. It waits as content does that lacks a dependency, and is judged again when there is
//! more of the groups; its sender, who must have a reason to believe in it, is asked for them.

use downbeat_core::delete::{self, Claim, DeleteError};
use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, Content, Header, Ruleset, SessionContent};
use rustc_hash::FxHashSet;

use crate::covalue::{Deletion, Entry, Index, Parked};
use crate::event::{Millis, PeerId};
use crate::holding::Needs;
use crate::machine::Machine;
use crate::report::Rejection;

/// Groups that are watched for one deletion. A group has a few parents, and those as well; what
/// has more is judged when one of these changes, or by the next deletion.
const MAX_GROUPS: usize = 1_000;

/// Whether a deletion is refused because of what is stored of the groups, which may change.
fn is_for_the_role(rejection: &Rejection) -> bool {
    matches!(
        rejection,
        Rejection::InvalidDelete(DeleteError::NotAdmin(_) | DeleteError::RoleUnknown)
    )
}

impl Machine {
    /// The claim to delete the CoValue that runs make, as far as it can be told without the
    /// group's history.
    pub(crate) fn claim(
        &self,
        id: CoValueId,
        runs: &[SessionContent],
    ) -> Result<Option<Claim>, Rejection> {
        let Some(index) = self.values.get(&id).and_then(Entry::index) else { return Ok(None) };
        for run in runs {
            let claim =
                delete::claim(id, &index.header, &run.session, run.after, &run.transactions)?;
            if claim.is_some() {
                return Ok(claim);
            }
        }
        Ok(None)
    }

    /// Puts content that deletes aside until the owning group, and the groups that it depends on,
    /// are stored as far as they have come: who may delete is judged by what is stored. Gives the
    /// content back if there is nothing to wait for.
    pub(crate) fn park_deletion(
        &mut self,
        peer: PeerId,
        header: &Header,
        content: Content,
        waited: Option<Millis>,
    ) -> Option<Content> {
        let deletes = content.sessions.iter().any(|run| run.session.is_delete());
        let unsettled = if deletes { self.unsettled_group(header) } else { None };
        let group = unsettled.and_then(|id| self.values.get_mut(&id)).and_then(Entry::index_mut);
        match group {
            Some(group) => {
                let id = content.id;
                group.parked.push(Parked { peer, content, waited });
                // What is known of the CoValue itself is needed again then.
                let entry = self.entry(id);
                entry.pins += 1;
                entry.parked += 1;
                None
            }
            None => Some(content),
        }
    }

    /// A group among those that decide over a CoValue of which something is not stored yet.
    fn unsettled_group(&self, header: &Header) -> Option<CoValueId> {
        let is_unsettled = |index: &Index| !index.is_settled();
        self.deciding_groups(header)
            .into_iter()
            .find(|id| self.index(*id).is_some_and(is_unsettled))
    }

    /// The groups that decide over a CoValue, as far as they are known in memory: the owning one
    /// and what it depends on, but for accounts. What is not in memory may be a group.
    fn deciding_groups(&self, header: &Header) -> Vec<CoValueId> {
        let Ruleset::OwnedByGroup { group } = header.ruleset() else { return Vec::new() };
        let mut seen = FxHashSet::default();
        let mut groups = Vec::new();
        let mut open = vec![*group];
        while let Some(id) = open.pop() {
            if groups.len() >= MAX_GROUPS {
                break;
            }
            let is_no_group =
                |index: &Index| !index.header.is_group() || index.header.account_agent().is_some();
            if !seen.insert(id) || self.index(id).is_some_and(is_no_group) {
                continue;
            }
            groups.push(id);
            if let Some(entry) = self.values.get(&id) {
                open.extend(entry.dependencies.as_slice());
            }
        }
        groups
    }

    fn index(&self, id: CoValueId) -> Option<&Index> {
        self.values.get(&id).and_then(Entry::index)
    }

    fn stored_transactions(&self, id: CoValueId) -> Option<u64> {
        self.index(id).map(Index::durable_transactions)
    }

    /// A run is about to be judged that deletes a CoValue: keeps in mind by what.
    pub(crate) fn begin_judging(
        &mut self,
        id: CoValueId,
        runs: &[SessionContent],
    ) -> Option<Box<Deletion>> {
        let run = runs.first()?.clone();
        let groups = self.deciding_groups(&self.index(id)?.header);
        let with_count = |group| (group, self.stored_transactions(group));
        let groups: Vec<_> = groups.into_iter().map(with_count).collect();
        for (group, _) in &groups {
            self.entry(*group).pins += 1;
        }
        Some(Box::new(Deletion { run, groups }))
    }

    /// A deletion has been judged. One that is refused for its author's role is put aside; any
    /// other rejection is given back.
    pub(crate) fn end_judging(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        deletion: Option<Box<Deletion>>,
        rejection: Option<Rejection>,
    ) -> Option<Rejection> {
        let Some(deletion) = deletion else { return rejection };
        let Deletion { run, groups } = *deletion;
        for (group, _) in &groups {
            let entry = self.entry(*group);
            entry.pins = entry.pins.saturating_sub(1);
        }
        let rejection = rejection?;
        if !is_for_the_role(&rejection) {
            return Some(rejection);
        }
        let index = self.index(id)?;
        let (header, priority) = (index.header.clone(), index.header.priority());
        let content = Content {
            id,
            header: None,
            priority,
            sessions: vec![run],
            malformed: Vec::new(),
            expect_content_until: None,
        };
        let has_grown = |(group, before): &(CoValueId, Option<u64>)| {
            before.is_some() && self.stored_transactions(*group) != *before
        };
        let has_changed = groups.iter().any(has_grown);
        let here = self.deciding_groups(&header);
        let needs = Needs { here: here.clone(), ..Needs::default() };
        let until = self.now + self.config.hold_time;
        self.hold_refused(peer, content, &needs, until, rejection);
        if has_changed {
            self.retries.push_back((id, peer));
            return None;
        }
        for group in here {
            self.ask_sender(peer, group, true);
        }
        None
    }

    /// There is more of a group: deletions that it has refused are judged again.
    pub(crate) fn judge_again(&mut self, group: CoValueId) {
        let refused = self.refused_by(group);
        self.retries.extend(refused);
    }

    /// A group has been looked up: deletions that it has refused wait for more of its parents as
    /// well.
    pub(crate) fn watch_parents(&mut self, group: CoValueId) {
        for (id, peer) in self.refused_by(group) {
            let Some(header) = self.index(id).map(|index| index.header.clone()) else { continue };
            for parent in self.deciding_groups(&header) {
                self.await_also(peer, id, parent);
            }
        }
    }

    /// A peer says what it has of a group: if it has no more than there is here, its deletions
    /// that were refused remain so.
    pub(crate) fn answered_for_group(&mut self, peer: PeerId, group: CoValueId) {
        for (id, _) in self.refused_by(group).into_iter().filter(|(_, other)| *other == peer) {
            let Some(header) = self.index(id).map(|index| index.header.clone()) else { continue };
            let groups = self.deciding_groups(&header);
            if groups.into_iter().all(|group| self.has_no_more(peer, group)) {
                self.give_up_refused(peer, id);
            }
        }
    }

    /// Whether a peer that was asked for a group has answered that it has nothing beyond what is
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
        !subscription.asked && is_all_here && !self.is_holding(peer, group)
    }

    fn refused_by(&self, group: CoValueId) -> Vec<(CoValueId, PeerId)> {
        let Some(entry) = self.values.get(&group) else { return Vec::new() };
        let dependants = entry.dependants.iter().copied();
        dependants.filter(|(id, peer)| self.is_holding_refused(*peer, *id)).collect()
    }

    /// Everything of a group is stored: goes on with the deletions that waited for that.
    pub(crate) fn take_parked(&mut self, id: CoValueId) {
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        if index.parked.is_empty() || !index.is_settled() {
            return;
        }
        for Parked { peer, content, waited } in std::mem::take(&mut index.parked) {
            let id = content.id;
            let entry = self.entry(id);
            entry.pins = entry.pins.saturating_sub(1);
            entry.parked = entry.parked.saturating_sub(1);
            self.take_content(peer, content, waited);
            self.finish_comparisons(id);
        }
    }
}
