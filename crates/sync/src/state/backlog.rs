//! Work that is left for the next polls, because it is too much for one.

use std::collections::VecDeque;
use std::vec;

use downbeat_protocol::CoValueId;

use crate::event::PeerId;
use crate::state::subscription::{PendingReplies, Subscription};
use crate::state::table::Key;

/// Work that is left for the next polls.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Peers with CoValues to compare, each once (`Batches::enter_queue`).
    pub comparing: VecDeque<PeerId>,
    /// Clients that have left, with their subscriptions.
    leaving: VecDeque<Leaving>,
    /// CoValues that have to be queued for very many subscribers, each once.
    announcing: VecDeque<FanOut>,
}

/// A client that has left, and the subscriptions that have to be removed.
#[derive(Debug)]
struct Leaving {
    peer: PeerId,
    keys: Vec<Key>,
}

/// The subscribers that a CoValue is queued for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// All of them.
    All,
    /// Those that get a message.
    Answered,
    /// Those that get a correction.
    Corrected,
}

/// Subscribers that a CoValue has to be queued for.
#[derive(Debug)]
struct FanOut {
    id: CoValueId,
    audience: Audience,
    peers: vec::IntoIter<PeerId>,
    /// Whether all of them are due again, because there is something new since.
    again: Option<Audience>,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.comparing.is_empty() && self.leaving.is_empty() && self.announcing.is_empty()
    }

    /// A client has left.
    pub(crate) fn leave(&mut self, peer: PeerId, keys: Vec<Key>) {
        if !keys.is_empty() {
            self.leaving.push_back(Leaving { peer, keys });
        }
    }

    /// The next subscription to remove.
    pub(crate) fn next_left(&mut self) -> Option<(PeerId, Key)> {
        let Leaving { peer, keys } = self.leaving.front_mut()?;
        let next = (*peer, keys.pop()?);
        if keys.is_empty() {
            self.leaving.pop_front();
        }
        Some(next)
    }

    /// A CoValue has to be queued for these subscribers.
    pub(crate) fn announce(&mut self, id: CoValueId, audience: Audience, peers: &[PeerId]) {
        // Each entry means so much work that looking through them adds little.
        if let Some(fan_out) = self.announcing.iter_mut().find(|fan_out| fan_out.id == id) {
            fan_out.again = Some(audience.with(fan_out.again));
        } else {
            let peers = Vec::from(peers).into_iter();
            self.announcing.push_back(FanOut { id, audience, peers, again: None });
        }
    }

    /// The next subscribers that a CoValue has to be queued for, at most `count`.
    pub(crate) fn next_audience(&mut self, count: usize) -> Option<Portion> {
        let mut fan_out = self.announcing.pop_front()?;
        let FanOut { id, audience, ref mut peers, again } = fan_out;
        let portion = peers.take(count).collect();
        if peers.as_slice().is_empty() {
            return Some(Portion { id, audience, peers: portion, again });
        }
        self.announcing.push_back(fan_out);
        Some(Portion { id, audience, peers: portion, again: None })
    }
}

/// A part of the subscribers that a CoValue has to be queued for.
pub(crate) struct Portion {
    pub id: CoValueId,
    pub audience: Audience,
    pub peers: Vec<PeerId>,
    /// Whether they were the last, and all are due again.
    pub again: Option<Audience>,
}

impl Audience {
    /// Whether a subscriber belongs to it.
    pub(crate) fn has(self, subscription: &Subscription) -> bool {
        match self {
            Self::All => true,
            Self::Answered => !subscription.replies.is_empty(),
            Self::Corrected => subscription.replies.has(PendingReplies::CORRECTION),
        }
    }

    fn with(self, other: Option<Self>) -> Self {
        match other {
            None | Some(Self::Corrected) => self,
            Some(other) if other == self => self,
            Some(other) if self == Self::Corrected => other,
            Some(_) => Self::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscribers_to_whom_something_new_is_announced_meanwhile_all_come_once_more() {
        let id = CoValueId::from_short_hash(&[1; 19]);
        let peers: Vec<PeerId> = (0..5).map(PeerId).collect();
        let mut backlog = Backlog::default();
        backlog.announce(id, Audience::Answered, &peers);
        let first = backlog.next_audience(3).unwrap();
        assert_eq!((first.peers.len(), first.again), (3, None));
        backlog.announce(id, Audience::Corrected, &peers);
        backlog.announce(id, Audience::All, &peers);
        let last = backlog.next_audience(3).unwrap();
        assert_eq!((last.audience, last.again), (Audience::Answered, Some(Audience::All)));
        let mut all = first.peers;
        all.extend(last.peers);
        all.sort_unstable();
        assert_eq!(all, peers);
        assert!(backlog.is_empty() && backlog.next_audience(3).is_none());
    }
}
