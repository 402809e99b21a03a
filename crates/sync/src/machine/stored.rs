//! Stores, and event `Stored`: verified content becomes durable.

use downbeat_protocol::{CoValueId, SessionContent};

use crate::action::{Action, StoreJob};
use crate::credit::Credit;
use crate::event::{PeerId, Stored};
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::state::index::FinishedStore;
use crate::state::presence::Change;

impl Machine {
    /// Gives verified content to storage. The credits are released when it is durable.
    pub(super) fn store(
        &mut self,
        id: CoValueId,
        sessions: Vec<SessionContent>,
        delete: bool,
        credits: Vec<Credit>,
        author: PeerId,
    ) {
        let Some(index) = self.index_mut(id) else { return };
        let header = index.begin_store(credits);
        let author = Some(author);
        self.actions.push(Action::Store(StoreJob { id, header, sessions, delete, author }));
    }

    pub(super) fn stored(&mut self, stored: Stored) {
        let Stored { id, durable, conflict } = stored;
        let Some(index) = self.index_mut(id) else { return };
        let Some(finished) = index.finish_store(&durable, conflict) else { return };
        let FinishedStore { credits, is_first } = finished;
        let is_deleted = index.is_deleted();
        if !index.is_outdated() {
            self.acknowledge(id, &credits);
        }
        if is_first || is_deleted {
            // Messages that had to wait until the CoValue was durable.
            self.enqueue_subscribers(id, |subscription| !subscription.replies.is_empty());
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

    /// Looks a CoValue up again if another writer has changed what is stored, as soon as nothing
    /// of it is in progress.
    pub(super) fn look_up_again(&mut self, id: CoValueId) {
        let Some(entry) = self.values.get_mut(&id) else { return };
        let Some(index) = entry.index_mut() else { return };
        if !index.is_outdated() || !index.is_settled() {
            return;
        }
        self.warm_chains -= index.chains.len();
        // Their content may be stored or not: the senders are corrected.
        let unacknowledged = index.take_awaiting_ack();
        let claimants = index.take_claimants();
        entry.change(Change::Outdated);
        self.actions.push(Action::Load(id));
        for (peer, sent) in unacknowledged {
            if let Some(subscription) = self.subscription_mut(peer, id) {
                subscription.add_correction(&sent);
            }
            self.wait_for(peer, id);
        }
        for peer in claimants {
            self.wait_for(peer, id);
        }
    }
}
