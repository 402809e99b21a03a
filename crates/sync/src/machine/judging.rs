//! The judgement of a deletion: what it is judged by, and what follows if it is refused.

use downbeat_core::delete::DeleteError;
use downbeat_protocol::{CoValueId, Content, SessionContent};

use crate::credit::Credit;
use crate::event::PeerId;
use crate::machine::Machine;
use crate::rejection::Rejection;
use crate::state::held::Needs;
use crate::state::index::Index;
use crate::state::pending::PendingContent;
use crate::state::pipeline::Deletion;

impl Machine {
    /// A run that deletes a CoValue goes to the verifier: notes the groups that it is judged by.
    pub(super) fn begin_judging(
        &mut self,
        id: CoValueId,
        runs: &[SessionContent],
    ) -> Option<Box<Deletion>> {
        let run = runs.first()?.clone();
        let groups = self.deciding_groups(self.index(id)?.header());
        let with_count = |group| (group, self.stored_transactions(group));
        let groups: Vec<_> = groups.into_iter().map(with_count).collect();
        for (group, _) in &groups {
            self.entry(*group).pin();
        }
        Some(Box::new(Deletion { run, groups }))
    }

    /// A deletion has been judged. One that is refused for its author's role is put aside; any
    /// other rejection is returned.
    pub(super) fn end_judging(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        deletion: Option<Box<Deletion>>,
        rejection: Option<Rejection>,
    ) -> Option<Rejection> {
        let Some(deletion) = deletion else { return rejection };
        let Deletion { run, groups } = *deletion;
        for (group, _) in &groups {
            self.entry(*group).unpin();
        }
        let rejection = rejection?;
        if !may_change(&rejection) {
            return Some(rejection);
        }
        let index = self.index(id)?;
        let (header, priority) = (index.header().clone(), index.header().priority());
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
        // The credit was released when the run was verified.
        let deadline = Some(self.now + self.config.hold_time);
        let pending = PendingContent { content, credit: Credit::released(peer), deadline };
        self.hold_refused(pending, &needs, rejection);
        if has_changed {
            self.retries.push_back((id, peer));
            return None;
        }
        for group in here {
            self.ask_sender(peer, group, true);
        }
        None
    }

    fn stored_transactions(&self, id: CoValueId) -> Option<u64> {
        self.index(id).map(Index::durable_transactions)
    }
}

/// Whether a deletion is refused because of the stored part of the groups, which may change.
fn may_change(rejection: &Rejection) -> bool {
    matches!(
        rejection,
        Rejection::InvalidDelete(DeleteError::NotAdmin(_) | DeleteError::RoleUnknown)
    )
}
