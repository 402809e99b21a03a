//! Stores, and the messages that follow from stored content.

use downbeat_protocol::{CoValueId, SessionContent, SessionCounts};

use crate::action::{Action, StoreJob};
use crate::credit::Credit;
use crate::event::PeerId;
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::state::backlog::Audience;
use crate::state::presence::Change;
use crate::state::subscription::PendingReplies;

impl Machine {
    /// Gives verified content to storage. The credits are released when it is durable.
    pub(in crate::machine) fn store(
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

    /// Looks a CoValue up again if another writer has changed what is stored, as soon as nothing
    /// of it is in progress.
    pub(in crate::machine) fn look_up_again(&mut self, id: CoValueId) {
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
            self.add_correction(peer, id, &sent);
            self.wait_for(peer, id);
        }
        for peer in claimants {
            self.wait_for(peer, id);
        }
    }

    /// Queues KNOWNs for the authors of content that was just stored, and for peers whose content
    /// is all durable now.
    pub(in crate::machine) fn acknowledge(
        &mut self,
        id: CoValueId,
        stored: &[Credit],
        durable: &SessionCounts,
    ) {
        let forgets = self.has_bug(InjectedBug::ForgetAcknowledgement);
        let Some(index) = self.index_mut(id) else { return };
        if index.is_header_unstored() || index.is_outdated() || index.owes_no_acknowledgement() {
            return;
        }
        let mut due: Vec<(PeerId, SessionCounts)> =
            stored.iter().map(|credit| (credit.peer(), durable.clone())).collect();
        index.take_acknowledged(&mut due);
        if forgets {
            index.take_awaiting_ack();
        }
        for (peer, sessions) in due {
            self.add_acknowledged(peer, id, &sessions);
            if let Some(subscription) = self.subscription_mut(peer, id) {
                subscription.replies.add(PendingReplies::KNOWN);
                self.enqueue(peer, id);
            }
        }
    }

    /// Queues a CoValue for every subscriber: each gets what it lacks.
    pub(in crate::machine) fn forward(&mut self, id: CoValueId) {
        self.watch_upstreams(id);
        self.enqueue_subscribers(id, Audience::All);
    }

    /// Some content of a CoValue has been verified or stored: looks again at the LOADs whose claims
    /// waited for it.
    pub(in crate::machine) fn enqueue_claimants(&mut self, id: CoValueId) {
        let Some(index) = self.index_mut(id) else { return };
        for peer in index.take_claimants() {
            self.enqueue(peer, id);
        }
    }

    /// Queues a correction, because the peer's content up to these counts was dropped.
    pub(in crate::machine) fn correct(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        dropped: &SessionCounts,
    ) {
        if self.has_bug(InjectedBug::OweNoCorrection) {
            return;
        }
        self.add_correction(peer, id, dropped);
        self.enqueue(peer, id);
    }

    fn add_correction(&mut self, peer: PeerId, id: CoValueId, dropped: &SessionCounts) {
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.add_correction(dropped);
            self.charge_dropped(peer, id);
        }
    }
}
