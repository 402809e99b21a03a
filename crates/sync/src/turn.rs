//! Turns: what a peer is owed is made into messages when the peer has room for them.

use downbeat_protocol::{CoValueId, Known, KnownState, Message, Reconcile};
use rustc_hash::FxHashSet;

use crate::action::{Action, ContentItem, Item};
use crate::covalue::{Entry, Presence};
use crate::event::{PeerId, Progress};
use crate::machine::Machine;
use crate::peer::Owes;

/// CoValues drawn for one turn. Enough to make the way through the runtime cheap per CoValue, and
/// few enough that something more urgent does not wait long.
const MAX_VALUES_PER_TURN: usize = 64;

impl Machine {
    /// Gives a peer its next turn, if anything is owed to it.
    pub(crate) fn draw(&mut self, peer: PeerId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.ready = false;
        let mut items = Vec::new();
        let mut drawn = 0;
        while drawn < MAX_VALUES_PER_TURN {
            let Some(id) = self.peers.get_mut(&peer).and_then(crate::peer::Peer::next_owed) else {
                break;
            };
            self.draw_value(peer, id, &mut items);
            drawn += 1;
        }
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
            state.busy = true;
            self.actions.push(Action::Turn { peer, items });
        }
    }

    /// Everything that a peer is owed of one CoValue.
    fn draw_value(&mut self, peer: PeerId, id: CoValueId, items: &mut Vec<Item>) {
        let Some(entry) = self.values.get(&id) else {
            return self.draw_forgotten(peer, id, items);
        };
        let undecided = entry.is_undecided();
        // What storage has must be known before a LOAD can say it.
        let can_ask = !matches!(entry.presence, Presence::Loading | Presence::Unknown(_));
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        if can_ask && std::mem::take(&mut subscription.owes.load) {
            items.push(Item::Message(Message::Load(self.our_state(id))));
        }
        if undecided {
            self.entry(id).waiting.push((peer, id));
            return;
        }
        if let Some(load) = self.compare(peer, id) {
            items.push(Item::Message(load));
        }
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        let owes = std::mem::take(&mut subscription.owes);
        if self.values.get(&id).and_then(Entry::index).is_none() {
            return self.draw_absent(peer, id, owes, items);
        }
        if owes.correction || owes.known {
            let known = self.known(peer, id, owes.correction);
            items.push(Item::Message(known));
        }
        let sent = self.draw_content(peer, id, items);
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        match sent {
            Drawn::Waits => subscription.owes.reply |= owes.reply || owes.not_found,
            Drawn::Content => subscription.told = true,
            Drawn::Nothing => {
                let answer = owes.reply || owes.not_found;
                let first = !subscription.told && subscription.subscribed;
                let said = owes.correction || owes.known;
                if answer || first && !said {
                    let known = self.known(peer, id, false);
                    items.push(Item::Message(known));
                }
            }
        }
    }

    /// A CoValue that was forgotten since it was put into the queue is looked up again, unless
    /// word that it does not exist is all that is owed.
    fn draw_forgotten(&mut self, peer: PeerId, id: CoValueId, items: &mut Vec<Item>) {
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        let only_not_found = Owes { not_found: true, ..Owes::default() };
        if subscription.owes == only_not_found {
            subscription.owes = Owes::default();
            subscription.told = true;
            items.push(Item::Message(plain_known(KnownState::empty(id))));
        } else {
            self.entry(id).waiting.push((peer, id));
        }
    }

    fn draw_absent(&mut self, peer: PeerId, id: CoValueId, owes: Owes, items: &mut Vec<Item>) {
        if owes.correction {
            let known =
                Known { state: KnownState::empty(id), is_correction: true, as_dependency_of: None };
            items.push(Item::Message(Message::Known(known)));
        } else if owes.reply || owes.not_found {
            items.push(Item::Message(plain_known(KnownState::empty(id))));
        } else {
            return;
        }
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.told = true;
        }
    }

    /// What we have of a CoValue, as the peer is to hear it.
    fn known(&mut self, peer: PeerId, id: CoValueId, is_correction: bool) -> Message {
        let Some(index) = self.values.get(&id).and_then(Entry::index) else {
            return plain_known(KnownState::empty(id));
        };
        let mut state = index.durable(id);
        let deleted = index.deleted;
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.told = true;
            if deleted {
                // As if we had taken what the peer still has of the deleted sessions.
                let theirs = &subscription.known().sessions;
                downbeat_core::known_state::merge_counts(&mut state.sessions, theirs);
            }
        }
        Message::Known(Known { state, is_correction, as_dependency_of: None })
    }

    /// The content that a peer lacks of a CoValue, preceded by what the CoValue depends on.
    fn draw_content(&mut self, peer: PeerId, id: CoValueId, items: &mut Vec<Item>) -> Drawn {
        let Some(subscription) = self.subscription(peer, id) else { return Drawn::Nothing };
        if !subscription.subscribed || subscription.errored || !self.lacks(peer, id) {
            return Drawn::Nothing;
        }
        match self.dependencies_first(peer, id) {
            None => Drawn::Waits,
            Some(dependencies) => {
                for dependency in dependencies {
                    self.draw_item(peer, dependency, items);
                }
                self.draw_item(peer, id, items);
                Drawn::Content
            }
        }
    }

    fn lacks(&self, peer: PeerId, id: CoValueId) -> bool {
        let Some(index) = self.values.get(&id).and_then(Entry::index) else { return false };
        self.subscription(peer, id).is_none_or(|subscription| {
            let expected = subscription.expected();
            !expected.header || !index.missing(&expected.sessions).is_empty()
        })
    }

    /// The CoValues to send before a CoValue, in their order. `None` if some are not in memory:
    /// the CoValue is put into the peer's queue again when they have been looked up.
    fn dependencies_first(&mut self, peer: PeerId, id: CoValueId) -> Option<Vec<CoValueId>> {
        if self.peers.get(&peer).is_none_or(|state| state.upstream.is_some()) {
            // An upstream asks for what it lacks.
            return Some(Vec::new());
        }
        let tried = self.subscription(peer, id).is_some_and(|state| state.dependencies_tried);
        let mut order = Vec::new();
        let mut unknown = Vec::new();
        let mut seen = FxHashSet::default();
        // Depth first without recursion: a CoValue is met twice, before and after what it depends
        // on.
        let mut open = vec![(id, false)];
        while let Some((next, is_done)) = open.pop() {
            if is_done {
                order.push(next);
                continue;
            }
            if !seen.insert(next) {
                continue;
            }
            let entry = self.values.get(&next);
            match entry {
                Some(entry) if !entry.is_undecided() => {
                    if entry.index().is_none() {
                        continue;
                    }
                }
                _ => {
                    unknown.push(next);
                    continue;
                }
            }
            let dependencies = entry.map_or(&[][..], |entry| &entry.dependencies);
            let sent = self.subscription(peer, next).map_or(0, |state| state.dependencies_sent);
            if next != id {
                open.push((next, true));
            }
            if sent < dependencies.len() {
                open.extend(dependencies.iter().rev().map(|dependency| (*dependency, false)));
            }
        }
        if !unknown.is_empty() && !tried {
            if let Some(subscription) = self.subscription_mut(peer, id) {
                subscription.dependencies_tried = true;
            }
            for dependency in unknown {
                self.entry(dependency).waiting.push((peer, id));
            }
            return None;
        }
        for sent in order.iter().copied().chain([id]) {
            let count = self.values.get(&sent).map_or(0, |entry| entry.dependencies.len());
            if let Some(subscription) = self.subscribe(peer, sent) {
                subscription.dependencies_sent = count;
                subscription.dependencies_tried = false;
            }
        }
        order.retain(|dependency| self.lacks(peer, *dependency));
        Some(order)
    }

    /// The content of one CoValue, if the peer lacks any.
    fn draw_item(&mut self, peer: PeerId, id: CoValueId, items: &mut Vec<Item>) {
        let Some(entry) = self.values.get(&id) else { return };
        let Some(index) = entry.index() else { return };
        let Some(subscription) =
            self.peers.get_mut(&peer).and_then(|state| state.subscriptions.get_mut(&id))
        else {
            return;
        };
        let expected = subscription.expected();
        let until = index.missing(&expected.sessions);
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
        subscription.mark_sent(&until);
        subscription.told = true;
        subscription.streaming = false;
    }

    pub(crate) fn turn_done(&mut self, peer: PeerId, progress: &[Progress]) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.busy = false;
        for Progress { id, epoch, header, started, reached, stalled } in progress {
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
