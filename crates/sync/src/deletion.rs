//! Deletions: what is told of them without the owning group's history, and waiting until that
//! history is stored.

use downbeat_core::delete::{self, Claim};
use downbeat_protocol::{CoValueId, Content, Header, Ruleset, SessionContent};
use rustc_hash::FxHashSet;

use crate::covalue::{Entry, Parked};
use crate::event::{Millis, PeerId};
use crate::machine::Machine;
use crate::report::Rejection;

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
                self.entry(id).pins += 1;
                None
            }
            None => Some(content),
        }
    }

    /// A group among those that decide over a CoValue of which something is not stored yet.
    fn unsettled_group(&self, header: &Header) -> Option<CoValueId> {
        let Ruleset::OwnedByGroup { group } = header.ruleset() else { return None };
        let mut seen = FxHashSet::default();
        let mut open = vec![*group];
        while let Some(id) = open.pop() {
            let Some(entry) = self.values.get(&id).filter(|_| seen.insert(id)) else { continue };
            let Some(index) = entry.index().filter(|index| index.header.is_group()) else {
                continue;
            };
            if !index.is_settled() {
                return Some(id);
            }
            open.extend(entry.dependencies.as_slice());
        }
        None
    }

    /// Everything of a group is stored: goes on with the deletions that waited for that.
    pub(crate) fn take_parked(&mut self, id: CoValueId) {
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        if index.parked.is_empty() || !index.is_settled() {
            return;
        }
        for Parked { peer, content, waited } in std::mem::take(&mut index.parked) {
            let entry = self.entry(content.id);
            entry.pins = entry.pins.saturating_sub(1);
            self.take_content(peer, content, waited);
        }
    }
}
