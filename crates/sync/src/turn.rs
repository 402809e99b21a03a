//! Turns: what a peer is owed is made into messages when the peer has room for them.

use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, Content, Known, KnownState, Message, Reconcile};

use crate::action::{Action, ContentItem, Item};
use crate::covalue::{Entry, Presence};
use crate::event::{PeerId, Progress};
use crate::faults::Fault;
use crate::machine::Machine;
use crate::subscription::{Owes, Subscription};

/// CoValues drawn for one turn. Enough to make the way through the runtime cheap per CoValue, and
/// few enough that something more urgent does not wait long.
const MAX_VALUES_PER_TURN: usize = 64;

impl Machine {
    /// Gives a peer its next turn, if anything is owed to it.
    pub(crate) fn draw(&mut self, peer: PeerId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.ready = false;
        let mut items = Vec::with_capacity(state.owed().min(MAX_VALUES_PER_TURN));
        let mut drawn = 0;
        while drawn < MAX_VALUES_PER_TURN {
            let Some(key) = self.peers.get_mut(&peer).and_then(crate::peer::Peer::next_owed) else {
                break;
            };
            self.draw_value(peer, self.values.id(key), &mut items);
            drawn += 1;
        }
        let second = self.has_fault(Fault::SecondTurn);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        while let Some(batch) = state.next_reconciled() {
            items.push(Item::Message(Message::ReconcileAck(batch)));
        }
        if let Some(batch) = state.reconciling.as_mut().filter(|batch| !batch.values.is_empty()) {
            let values = std::mem::take(&mut batch.values);
            items.push(Item::Message(Message::Reconcile(Reconcile {
                id: batch.id.clone(),
                values,
            })));
        }
        if items.is_empty() {
            // What was drawn came to nothing; there may be more behind it.
            self.wake(peer);
        } else {
            state.busy = !second;
            self.actions.push(Action::Turn { peer, items });
        }
    }

    /// Everything that a peer is owed of one CoValue.
    fn draw_value(&mut self, peer: PeerId, id: CoValueId, items: &mut Vec<Item>) {
        let Some(entry) = self.values.get(&id) else {
            if self.has_fault(Fault::OweNothingForgotten) {
                return;
            }
            return self.draw_forgotten(peer, id, items);
        };
        let undecided = entry.is_undecided();
        // What storage has must be known before a LOAD can say it.
        let can_ask = !matches!(entry.presence, Presence::Loading | Presence::Unknown(_));
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        if can_ask && subscription.owes.take(Owes::LOAD) {
            subscription.told = true;
            items.push(Item::Message(Message::Load(self.our_state(id))));
        }
        if undecided {
            if self.is_asked_upstream(id) {
                self.draw_correction(peer, id, items);
            }
            self.wait_for(peer, id);
            return;
        }
        if let Some(load) = self.compare(peer, id) {
            items.push(Item::Message(load));
        }
        if self.values.get(&id).and_then(Entry::index).is_some_and(|index| !index.may_be_told()) {
            return self.draw_unstored(peer, id, items);
        }
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        let mut owes = std::mem::take(&mut subscription.owes);
        self.note_synced(peer, id);
        if owes.has(Owes::CORRECTION) {
            self.time_correction(peer, id, &mut owes);
        }
        if self.values.get(&id).and_then(Entry::index).is_none() {
            return self.draw_absent(peer, id, owes, items);
        }
        if owes.has(Owes::ANSWER) {
            self.weigh_claim(peer, id, &mut owes);
        }
        if owes.has(Owes::CORRECTION) || owes.has(Owes::KNOWN) {
            let known = self.known(peer, id, owes.has(Owes::CORRECTION));
            items.push(Item::Message(known));
        }
        let sent = self.draw_content(peer, id, items);
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        match sent {
            Drawn::Waits => {
                if owes.has(Owes::ANSWER) {
                    subscription.owes.add(Owes::REPLY);
                }
                if owes.has(Owes::FIRST) {
                    subscription.owes.add(Owes::FIRST);
                }
            }
            Drawn::Content => subscription.told = true,
            Drawn::Nothing => {
                let first = owes.has(Owes::FIRST) && !subscription.told;
                let is_told = owes.has(Owes::KNOWN) && !owes.has(Owes::CORRECTION);
                if (owes.has(Owes::ANSWER) || first) && !is_told {
                    let known = self.known(peer, id, false);
                    items.push(Item::Message(known));
                }
                if owes.has(Owes::ANSWER) || owes.has(Owes::CORRECTION) || first {
                    items.extend(self.doubt(peer, id));
                }
            }
        }
    }

    /// While upstreams are asked, content without a header cannot be taken, whatever they say.
    fn draw_correction(&mut self, peer: PeerId, id: CoValueId, items: &mut Vec<Item>) {
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        let mut owes = Owes::default();
        if subscription.owes.take(Owes::CORRECTION) {
            owes.add(Owes::CORRECTION);
            self.time_correction(peer, id, &mut owes);
            self.draw_absent(peer, id, owes, items);
        }
    }

    /// Storage does not have a CoValue, and upstreams are being asked: lets the peers have what could
    /// not be drawn before. An upstream that came meanwhile is owed the LOAD that is waited for.
    pub(crate) fn owe_what_waited_for_storage(&mut self, id: CoValueId) {
        if self.has_fault(Fault::AskNoLateUpstream) {
            return;
        }
        let is_owed = |state: &Subscription| state.owes.has(Owes::BEFORE_UPSTREAMS);
        let count = self.values.get(&id).map_or(0, |entry| entry.waiting.len());
        for number in 0..count {
            let waiting = self.values.get(&id).and_then(|entry| entry.waiting.get(number));
            let Some(&(peer, served)) = waiting else { return };
            if served == id && self.subscription(peer, id).is_some_and(is_owed) {
                self.owe(peer, id);
            }
        }
    }

    /// A CoValue that was forgotten since it was put into the queue is looked up again, unless
    /// word that it does not exist is all that is owed.
    fn draw_forgotten(&mut self, peer: PeerId, id: CoValueId, items: &mut Vec<Item>) {
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        if subscription.owes == Owes::NOT_FOUND {
            subscription.owes = Owes::default();
            self.draw_absent(peer, id, Owes::NOT_FOUND, items);
        } else {
            self.wait_for(peer, id);
        }
    }

    /// A CoValue whose header, or deletion, is not durable is sent, but nothing is said of it: any
    /// KNOWN would tell the peer that we have it for good. What else is owed is drawn when it is
    /// stored.
    fn draw_unstored(&mut self, peer: PeerId, id: CoValueId, items: &mut Vec<Item>) {
        if !matches!(self.draw_content(peer, id, items), Drawn::Content) {
            return;
        }
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.told = true;
            subscription.owes.take(Owes::ANSWER);
            subscription.owes.take(Owes::FIRST);
        }
    }

    /// Lets the peers have what was not drawn before the CoValue was stored.
    pub(crate) fn owe_what_waited(&mut self, id: CoValueId) {
        for number in 0..self.values.subscribers(id).len() {
            let Some(&peer) = self.values.subscribers(id).get(number) else { return };
            if self.subscription(peer, id).is_some_and(|state| !state.owes.is_empty()) {
                self.owe(peer, id);
            }
        }
    }

    /// What we have of a CoValue, as the peer is to hear it.
    fn known(&mut self, peer: PeerId, id: CoValueId, is_correction: bool) -> Message {
        let Some(index) = self.values.get(&id).and_then(Entry::index) else {
            return plain_known(KnownState::empty(id));
        };
        let mut state = index.durable(id);
        if self.has_fault(Fault::AcknowledgeEarly) {
            state.sessions = index.verified().clone();
        }
        let deleted = index.deleted;
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.told = true;
            if deleted {
                // As if we had taken what the peer still has of the deleted sessions.
                let theirs = subscription.known().sessions;
                known_state::merge_counts(&mut state.sessions, theirs);
            }
        }
        // Of a deleted CoValue nothing is wanted any longer.
        let is_correction = is_correction && !deleted;
        Message::Known(Known { state, is_correction, as_dependency_of: None })
    }

    /// A question to a client that claims to have everything of a CoValue that is sent in several
    /// pieces: content with nothing in it, which it answers with what it really has.
    fn doubt(&self, peer: PeerId, id: CoValueId) -> Option<Item> {
        let is_client = self.is_client(peer);
        let claims = self.subscription(peer, id).is_some_and(|subscription| {
            subscription.claimed && !subscription.known().sessions.is_empty()
        });
        let index = self.values.get(&id).and_then(Entry::index)?;
        (is_client && claims && index.may_be_large()).then(|| {
            Item::Message(Message::Content(Content {
                id,
                header: None,
                priority: index.header.priority(),
                sessions: Vec::new(),
                malformed: Vec::new(),
                expect_content_until: None,
            }))
        })
    }

    /// The content that a peer lacks of a CoValue, preceded by what the CoValue depends on.
    fn draw_content(&mut self, peer: PeerId, id: CoValueId, items: &mut Vec<Item>) -> Drawn {
        let Some(subscription) = self.subscription(peer, id) else { return Drawn::Nothing };
        if !subscription.subscribed || !self.lacks(peer, id) {
            return Drawn::Nothing;
        }
        match self.dependencies_first(peer, id) {
            None => Drawn::Waits,
            Some(dependencies) => {
                if self.has_fault(Fault::DependantsFirst) {
                    self.draw_item(peer, id, items);
                }
                for dependency in dependencies {
                    self.draw_item(peer, dependency, items);
                }
                self.draw_item(peer, id, items);
                Drawn::Content
            }
        }
    }

    pub(crate) fn lacks(&self, peer: PeerId, id: CoValueId) -> bool {
        let Some(index) = self.values.get(&id).and_then(Entry::index) else { return false };
        self.subscription(peer, id).is_none_or(|subscription| {
            let expected = subscription.expected();
            !expected.header || index.is_ahead_of(expected.sessions)
        })
    }

    /// The content of one CoValue, if the peer lacks any.
    fn draw_item(&mut self, peer: PeerId, id: CoValueId, items: &mut Vec<Item>) {
        let Some(key) = self.values.key(id) else { return };
        let Some(index) = self.values.get(&id).and_then(Entry::index) else { return };
        let Some(subscription) =
            self.peers.get_mut(&peer).and_then(|state| state.subscriptions.get_mut(&key))
        else {
            return;
        };
        let expected = subscription.expected();
        let until = index.missing(expected.sessions);
        items.push(Item::Content(ContentItem {
            id,
            header: index.header.clone(),
            with_header: !expected.header,
            have: expected.sessions.clone(),
            until: until.clone(),
            announced: index.still_expected(),
            continuation: subscription.streaming,
            epoch: subscription.epoch,
        }));
        subscription.mark_sent(&until, index.verified());
        subscription.told = true;
        subscription.streaming = false;
    }

    pub(crate) fn turn_done(&mut self, peer: PeerId, progress: &[Progress]) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.busy = false;
        for Progress { id, epoch, header, started, reached, stalled } in progress {
            if self.has_fault(Fault::IgnoreProgress) {
                continue;
            }
            let Some(subscription) = self.subscription_mut(peer, *id) else { continue };
            if subscription.epoch != *epoch {
                continue;
            }
            subscription.mark_reached(*header, reached);
            subscription.streaming = *started;
            if !stalled {
                self.owe(peer, *id);
            }
        }
        self.wake(peer);
    }
}

/// What came of drawing content.
enum Drawn {
    /// Content is on its way.
    Content,
    /// The peer lacks nothing, or is not to be sent content.
    Nothing,
    /// It is drawn again when dependencies have been looked up.
    Waits,
}

fn plain_known(state: KnownState) -> Message {
    Message::Known(Known { state, is_correction: false, as_dependency_of: None })
}
