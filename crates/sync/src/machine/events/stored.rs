//! Event `Stored`: verified content is durable.

use crate::event::Stored;
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::state::backlog::Audience;
use crate::state::index::FinishedStore;

impl Machine {
    pub(in crate::machine) fn stored(&mut self, stored: Stored) {
        let Stored { id, durable, conflict } = stored;
        let Some(index) = self.index_mut(id) else { return };
        let Some(finished) = index.finish_store(&durable, conflict) else { return };
        let FinishedStore { credits, is_first } = finished;
        let is_deleted = index.is_deleted();
        if !index.is_outdated() {
            self.acknowledge(id, &credits, &durable);
        }
        if is_first || is_deleted {
            // Messages that had to wait until the CoValue was durable.
            self.enqueue_subscribers(id, Audience::Answered);
        }
        let keeps = self.has_bug(InjectedBug::KeepCredit);
        for credit in credits.into_iter().filter(|_| !keeps) {
            self.release(credit);
        }
        self.enqueue_claimants(id);
        if !durable.is_empty() {
            self.judge_again(id);
        }
        self.take_parked(id);
        self.look_up_again(id);
    }
}
