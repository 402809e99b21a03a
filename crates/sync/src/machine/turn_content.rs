//! The content of a turn: what a peer lacks of a CoValue, and its dependencies before it.

use downbeat_protocol::CoValueId;

use crate::action::{ContentItem, Item};
use crate::event::PeerId;
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::state::entry::Entry;
use crate::state::subscription::Lacking;

/// Whether content was added to a turn.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::machine) enum Sent {
    Content,
    /// The peer lacks nothing, or gets no content.
    Nothing,
    /// It is added to a later turn, when dependencies have been looked up.
    Waits,
}

impl Machine {
    /// Adds the content that a peer lacks of a CoValue, and the dependencies before it.
    pub(in crate::machine) fn push_content(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        items: &mut Vec<Item>,
    ) -> Sent {
        let Some(key) = self.values.key(id) else { return Sent::Nothing };
        let Some(index) = self.values.get(&id).and_then(Entry::index) else { return Sent::Nothing };
        let Some(subscription) = self.peers.subscription_mut(peer, key) else {
            return Sent::Nothing;
        };
        if !subscription.is_subscribed() {
            return Sent::Nothing;
        }
        if !subscription.lacks(index.verified()) {
            subscription.mark_complete(index.verified());
            return Sent::Nothing;
        }
        let Some(dependencies) = self.dependencies_first(peer, id) else { return Sent::Waits };
        if self.has_bug(InjectedBug::DependantsFirst) {
            self.push_item(peer, id, items);
        }
        for dependency in dependencies {
            self.push_item(peer, dependency, items);
        }
        self.push_item(peer, id, items);
        Sent::Content
    }

    /// Adds the content that a peer lacks of one CoValue.
    fn push_item(&mut self, peer: PeerId, id: CoValueId, items: &mut Vec<Item>) {
        let Some(key) = self.values.key(id) else { return };
        let Some(index) = self.values.get(&id).and_then(Entry::index) else { return };
        let Some(subscription) = self.peers.subscription_mut(peer, key) else { return };
        let Lacking { have, until } = subscription.lacking(index.verified());
        items.push(Item::Content(ContentItem {
            id,
            header: index.header().clone(),
            with_header: !subscription.expects_header(),
            have,
            until,
            announced: index.still_expected(),
            continuation: subscription.is_streaming(),
            epoch: subscription.epoch(),
        }));
        subscription.mark_sent(index.verified());
    }
}
