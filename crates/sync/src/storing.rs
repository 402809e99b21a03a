//! Storing: what is verified is handed to storage, acknowledged when it is durable, and sent to
//! those who are subscribed to it.

use downbeat_protocol::{CoValueId, SessionContent};

use crate::action::{Action, StoreJob};
use crate::covalue::{Entry, Presence};
use crate::event::{PeerId, Stored};
use crate::faults::Fault;
use crate::machine::Machine;
use crate::subscription::Owes;

impl Machine {
    pub(crate) fn store(
        &mut self,
        id: CoValueId,
        sessions: Vec<SessionContent>,
        delete: bool,
        releases: Vec<(PeerId, u64)>,
        author: PeerId,
    ) {
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        let header = std::mem::take(&mut index.header_unstored).then(|| index.header.clone());
        let author = Some(author);
        index.stores.push_back(releases);
        self.actions.push(Action::Store(StoreJob { id, header, sessions, delete, author }));
    }

    pub(crate) fn stored(&mut self, stored: Stored) {
        let Stored { id, durable, conflict } = stored;
        let Some(entry) = self.values.get_mut(&id) else { return };
        let Some(index) = entry.index_mut() else { return };
        let Some(releases) = index.stores.pop_front() else { return };
        index.settle(&durable);
        index.outdated |= conflict;
        let has_grown = !durable.is_empty();
        // The header goes with the first store.
        let is_first = !std::mem::replace(&mut index.header_durable, true);
        let is_deleted = index.deleted;
        if !index.outdated {
            self.acknowledge(id, &releases);
        }
        if is_first || is_deleted {
            self.owe_what_waited(id);
        }
        let kept = self.has_fault(Fault::KeepCredit);
        for (peer, credit) in releases.into_iter().filter(|_| !kept) {
            self.release(peer, credit);
        }
        self.owe_claimants(id);
        if has_grown {
            self.judge_again(id);
        }
        self.take_parked(id);
        self.look_up_again(id);
    }

    /// Looks a CoValue up again if somebody else has written to the same storage, as soon as
    /// nothing more of it is under way.
    pub(crate) fn look_up_again(&mut self, id: CoValueId) {
        let Some(entry) = self.values.get_mut(&id) else { return };
        let Some(index) = entry.index_mut() else { return };
        if !index.outdated || !index.is_settled() {
            return;
        }
        self.warm_chains -= index.chains.len();
        // What was sent may be stored or not: its senders are told what is.
        let unacknowledged = std::mem::take(&mut index.awaiting_ack);
        let claimants = std::mem::take(&mut index.claimants);
        entry.presence = Presence::Loading;
        self.actions.push(Action::Load(id));
        for (peer, sent) in unacknowledged {
            if let Some(subscription) = self.subscription_mut(peer, id) {
                subscription.owe_correction(&sent);
            }
            self.wait_for(peer, id);
        }
        for peer in claimants {
            self.wait_for(peer, id);
        }
    }

    /// Owes KNOWN to the authors of what has just been stored, and to those who have sent what is
    /// all there by now.
    pub(crate) fn acknowledge(&mut self, id: CoValueId, authors: &[(PeerId, u64)]) {
        let forgets = self.has_fault(Fault::ForgetAcknowledgement);
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        if index.header_unstored || index.outdated || index.awaiting_ack.is_empty() {
            return;
        }
        let all_stored = index.stores.is_empty();
        let mut awaiting = std::mem::take(&mut index.awaiting_ack);
        let mut due: Vec<PeerId> = authors.iter().map(|(peer, _)| *peer).collect();
        awaiting.retain(|(peer, sent)| {
            // A header has no count to go by, so content without transactions waits for all.
            let done = index.is_settled_up_to(sent)
                && (all_stored || !sent.is_empty())
                && !index.is_verifying_for(*peer, sent);
            if done {
                due.push(*peer);
            }
            !done && !forgets
        });
        index.awaiting_ack = awaiting;
        for peer in due {
            if let Some(subscription) = self.subscription_mut(peer, id) {
                subscription.owes.add(Owes::KNOWN);
                self.owe(peer, id);
            }
        }
    }

    /// Lets every subscriber have what it lacks now.
    pub(crate) fn forward(&mut self, id: CoValueId) {
        self.watch_upstream(id);
        for number in 0..self.values.subscribers(id).len() {
            let Some(&peer) = self.values.subscribers(id).get(number) else { return };
            self.owe(peer, id);
        }
    }
}
