//! Turns: the messages that a peer gets, built when the peer has room for them.

use downbeat_protocol::{CoValueId, Content, Message};

use crate::action::{Action, Item};
use crate::event::PeerId;
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::machine::turn_content::Sent;
use crate::state::subscription::PendingReplies;
use crate::state::upstream_link::UpstreamLink;

/// CoValues in one turn. They are enough to make the way through the runtime cheap for each, and
/// so few that a CoValue with a higher priority does not wait long.
const MAX_VALUES_PER_TURN: usize = 64;

impl Machine {
    /// Builds a peer's next turn, if there is something to send. Returns the number of CoValues
    /// that were looked at.
    pub(in crate::machine) fn build_turn(&mut self, peer: PeerId) -> usize {
        let Some(queued) = self.peers.begin_turn(peer) else { return 0 };
        let values = queued.min(MAX_VALUES_PER_TURN);
        let mut items = Vec::with_capacity(values);
        for _ in 0..MAX_VALUES_PER_TURN {
            let Some(key) = self.peers.next_queued(peer) else { break };
            self.push_value(peer, self.values.id(key), &mut items);
        }
        while let Some(batch) = self.peers.next_finished_batch(peer) {
            items.push(Item::Message(Message::ReconcileAck(batch)));
        }
        if let Some(batch) = self.link_mut(peer).and_then(UpstreamLink::take_batch_to_send) {
            items.push(Item::Message(Message::Reconcile(batch)));
        }
        if items.is_empty() {
            // The CoValues in the queue needed no message; there may be more behind them.
            self.peers.make_ready(peer);
        } else {
            if !self.has_bug(InjectedBug::SecondTurn) {
                self.peers.hand_over_turn(peer);
            }
            self.actions.push(Action::Turn { peer, items });
        }
        values
    }

    /// Asks for the end of the turns that others wait for.
    pub(in crate::machine) fn await_turns(&mut self) {
        while let Some(peer) = self.peers.next_awaiting() {
            if !self.has_bug(InjectedBug::AwaitNoTurn) {
                self.actions.push(Action::AwaitTurn(peer));
            }
        }
    }

    /// Adds everything that a peer gets of one CoValue.
    fn push_value(&mut self, peer: PeerId, id: CoValueId, items: &mut Vec<Item>) {
        let Some(entry) = self.values.get(&id) else {
            if self.has_bug(InjectedBug::OweNothingForgotten) {
                return;
            }
            return self.push_forgotten(peer, id, items);
        };
        let is_undecided = entry.is_undecided();
        let is_asking = entry.presence().is_asking();
        // A LOAD states our counts, so storage has to answer first.
        let can_ask = !entry.presence().is_unanswered();
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        if can_ask && subscription.replies.take(PendingReplies::LOAD) {
            subscription.mark_told_some();
            items.push(Item::Message(Message::Load(self.our_state(id))));
        }
        if is_undecided {
            if is_asking {
                self.push_correction(peer, id, items);
            }
            return self.wait_for(peer, id);
        }
        if let Some(load) = self.compare(peer, id) {
            items.push(Item::Message(load));
        }
        if self.index(id).is_some_and(|index| !index.may_send_known()) {
            return self.push_unstored(peer, id, items);
        }
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        let mut replies = std::mem::take(&mut subscription.replies);
        self.note_synced(peer, id);
        if replies.has(PendingReplies::CORRECTION) {
            self.time_correction(peer, id, &mut replies);
        }
        if self.index(id).is_none() {
            return self.push_absent(peer, id, replies, items);
        }
        if replies.has(PendingReplies::ANSWER) {
            // Storage may just have told which of the claimed sessions we have.
            self.charge_claim(peer, id, None);
            self.weigh_claim(peer, id, &mut replies);
        }
        let is_correction = replies.has(PendingReplies::CORRECTION);
        if is_correction || replies.has(PendingReplies::KNOWN) {
            let is_answer = is_correction || replies.has(PendingReplies::ANSWER);
            let known = if is_answer {
                self.known(peer, id, is_correction)
            } else {
                self.acknowledgement(peer, id)
            };
            items.push(Item::Message(known));
        }
        match self.push_content(peer, id, items) {
            Sent::Waits => self.postpone(peer, id, replies),
            Sent::Content => {}
            Sent::Nothing => self.push_answer(peer, id, replies, items),
        }
    }

    /// Content waits for look-ups: the replies that may go without a KNOWN if content goes are
    /// decided with it.
    fn postpone(&mut self, peer: PeerId, id: CoValueId, replies: PendingReplies) {
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        if replies.has(PendingReplies::ANSWER) {
            subscription.replies.add(PendingReplies::REPLY);
        }
        if replies.has(PendingReplies::FIRST) {
            subscription.replies.add(PendingReplies::FIRST);
        }
    }

    /// Adds the answer to a peer that lacks no content.
    fn push_answer(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        replies: PendingReplies,
        items: &mut Vec<Item>,
    ) {
        let Some(subscription) = self.subscription(peer, id) else { return };
        let is_first = replies.has(PendingReplies::FIRST) && !subscription.is_told();
        let is_correction = replies.has(PendingReplies::CORRECTION);
        let is_answer = replies.has(PendingReplies::ANSWER);
        let is_known = replies.has(PendingReplies::KNOWN) && !is_correction;
        if (is_answer || is_first) && !is_known {
            let known = self.known(peer, id, false);
            items.push(Item::Message(known));
        }
        if is_answer || is_correction || is_first {
            items.extend(self.doubt(peer, id));
        }
    }

    /// While upstreams are asked, content without a header cannot be taken, whatever they answer.
    fn push_correction(&mut self, peer: PeerId, id: CoValueId, items: &mut Vec<Item>) {
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        if subscription.replies.take(PendingReplies::CORRECTION) {
            let mut replies = PendingReplies::CORRECTION;
            self.time_correction(peer, id, &mut replies);
            self.push_absent(peer, id, replies, items);
        }
    }

    /// A CoValue that was forgotten since it was queued is looked up again, unless the only
    /// message is that it does not exist.
    fn push_forgotten(&mut self, peer: PeerId, id: CoValueId, items: &mut Vec<Item>) {
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        if subscription.replies == PendingReplies::NOT_FOUND {
            subscription.replies = PendingReplies::default();
            self.push_absent(peer, id, PendingReplies::NOT_FOUND, items);
        } else {
            self.wait_for(peer, id);
        }
    }

    /// A CoValue whose header, or deletion, is not durable is sent without a KNOWN, which would
    /// tell the peer that we have it for good. The other messages follow when it is stored.
    fn push_unstored(&mut self, peer: PeerId, id: CoValueId, items: &mut Vec<Item>) {
        if self.push_content(peer, id, items) != Sent::Content {
            return;
        }
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.replies.take(PendingReplies::ANSWER);
            subscription.replies.take(PendingReplies::FIRST);
        }
    }

    /// A question to a client that claims to have all of a CoValue that is sent in several pieces:
    /// empty content, which the client answers with what it really has.
    fn doubt(&self, peer: PeerId, id: CoValueId) -> Option<Item> {
        let claims = self.subscription(peer, id).is_some_and(|subscription| {
            subscription.is_claimed() && !subscription.known().sessions.is_empty()
        });
        let index = self.index(id)?;
        (self.is_client(peer) && claims && index.may_be_large()).then(|| {
            Item::Message(Message::Content(Content {
                id,
                header: None,
                priority: index.header().priority(),
                sessions: Vec::new(),
                malformed: Vec::new(),
                expect_content_until: None,
            }))
        })
    }
}
