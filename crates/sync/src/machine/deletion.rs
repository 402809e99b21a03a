//! Deletions: those that wait until the owning group is stored, and those that wait for more of
//! it.
//!
//! The stored part of the owning group decides who may delete. That part may be old or incomplete,
//! so that an admin looks like a stranger. A deletion that is refused for its author's role
//! therefore waits, like content that lacks a dependency, and is judged again when there is more
//! of the groups. Its sender, which must have a reason to believe in it, is asked for them.

use downbeat_core::delete::{self, Claim, DeleteError};
use downbeat_protocol::{CoValueId, Content, Header, SessionContent};

use crate::credit::Credit;
use crate::event::PeerId;
use crate::machine::Machine;
use crate::rejection::Rejection;
use crate::state::held::Needs;
use crate::state::index::Index;
use crate::state::pending::PendingContent;
use crate::state::pipeline::Deletion;

impl Machine {
    /// The claim to delete the CoValue that runs make, checked as far as that is possible without
    /// the group's history.
    pub(in crate::machine) fn claim(
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
    pub(in crate::machine) fn park_deletion(
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

    /// A group that decides over a CoValue, and is not stored completely yet.
    fn unsettled_group(&self, header: &Header) -> Option<CoValueId> {
        let is_unsettled = |index: &Index| !index.is_settled();
        self.deciding_groups(header)
            .into_iter()
            .find(|id| self.index(*id).is_some_and(is_unsettled))
    }

    /// A run that deletes a CoValue goes to the verifier: notes and pins the groups that it is
    /// judged by.
    pub(in crate::machine) fn begin_judging(
        &mut self,
        id: CoValueId,
        runs: &[SessionContent],
    ) -> Option<Box<Deletion>> {
        let run = runs.first()?.clone();
        let groups = self.deciding_groups(self.index(id)?.header());
        let with_count = |group| (group, self.stored_transactions(group));
        let groups: Vec<_> = groups.into_iter().map(with_count).collect();
        let deletion = Deletion { run, groups };
        for id in deletion.pinned() {
            self.entry(id).pin();
        }
        Some(Box::new(deletion))
    }

    /// A deletion has been judged. One that is refused for its author's role is put aside; any
    /// other rejection is returned.
    pub(in crate::machine) fn end_judging(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        deletion: Option<Box<Deletion>>,
        rejection: Option<Rejection>,
    ) -> Option<Rejection> {
        let Some(deletion) = deletion else { return rejection };
        for pinned in deletion.pinned() {
            self.entry(pinned).unpin();
        }
        let Deletion { run, groups: judged_by } = *deletion;
        let rejection = rejection?;
        if !may_change(&rejection) {
            return Some(rejection);
        }
        let index = self.index(id)?;
        let (header, priority) = (index.header().clone(), index.header().priority());
        let author = run.session.account();
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
        let has_changed = judged_by.iter().any(has_grown);
        let groups = self.deciding_groups(&header);
        // The author's account stays in memory as well. Otherwise the deletions of two authors that
        // have no room in memory together would be judged again whenever one of the accounts is
        // looked up for the other deletion.
        let here = groups.iter().copied().chain(author).collect();
        let needs = Needs { here, ..Needs::default() };
        // The credit was released when the run was verified.
        let deadline = Some(self.now + self.config.hold_time);
        let pending = PendingContent { content, credit: Credit::released(peer), deadline };
        self.hold_refused(pending, &needs, rejection);
        if has_changed {
            self.retries.push_back((id, peer));
            return None;
        }
        for group in groups {
            self.ask_sender(peer, group, true);
        }
        None
    }
}

/// Whether a deletion is refused because of the stored part of the groups, which may change.
fn may_change(rejection: &Rejection) -> bool {
    matches!(
        rejection,
        Rejection::InvalidDelete(DeleteError::NotAdmin(_) | DeleteError::RoleUnknown)
    )
}
