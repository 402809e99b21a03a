//! Work that is done in portions, one with each poll, so that no event delays those behind it for
//! long. While there is some, [`Machine::deadline`] is now.

use downbeat_protocol::{CoValueId, ShortHash};

use crate::event::PeerId;
use crate::machine::Machine;
use crate::state::backlog::{Audience, Portion};
use crate::state::subscription::PendingReplies;

/// Comparisons that begin with one poll. Each is a look-up for the runtime.
const COMPARISONS_PER_POLL: usize = 256;

/// Queues of held content that are looked at again with one poll or event.
pub(in crate::machine) const RETRIES_AT_ONCE: usize = 256;

/// Subscriptions of peers that have left that are removed with one poll.
const SUBSCRIPTIONS_PER_POLL: usize = 1_024;

/// Subscribers that a CoValue is queued for at once.
const SUBSCRIBERS_AT_ONCE: usize = 1_024;

/// CoValues in the turns that are built with one poll.
const VALUES_PER_POLL: usize = 4_096;

impl Machine {
    /// Whether there is work that waits for the next poll.
    pub(in crate::machine) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
            || !self.retries.is_empty()
            || self.peers.ready() > 0
            || self.next_to_forget().is_some()
    }

    /// Does a portion of each kind of work.
    pub(in crate::machine) fn work_off(&mut self) {
        self.retry_held();
        self.begin_comparisons();
        self.remove_left();
        if let Some(portion) = self.backlog.next_audience(SUBSCRIBERS_AT_ONCE) {
            self.announce_to(portion);
        }
    }

    /// Builds the turns of peers that are ready.
    pub(in crate::machine) fn build_turns(&mut self) {
        let mut values = 0;
        while values < VALUES_PER_POLL
            && let Some(peer) = self.peers.next_ready()
        {
            values += 1 + self.build_turn(peer);
        }
    }

    /// A peer has CoValues to compare.
    pub(in crate::machine) fn queue_comparisons(&mut self, peer: PeerId) {
        if self.peers.get_mut(&peer).is_some_and(|state| state.batches.enter_queue()) {
            self.backlog.comparing.push_back(peer);
        }
    }

    /// Begins with comparisons, one of each peer in turn.
    fn begin_comparisons(&mut self) {
        for _ in 0..COMPARISONS_PER_POLL {
            let Some(peer) = self.backlog.comparing.pop_front() else { return };
            let Some(state) = self.peers.get_mut(&peer) else { continue };
            let Some((id, hash)) = state.batches.next() else { continue };
            self.backlog.comparing.push_back(peer);
            self.begin_comparison(peer, id, hash);
        }
    }

    fn begin_comparison(&mut self, peer: PeerId, id: CoValueId, hash: ShortHash) {
        match self.track(peer, id) {
            // The peer need not be asked for content that is not accepted from it.
            Some(subscription) if subscription.standing().is_good() => {
                let is_new = !subscription.replies.has(PendingReplies::COMPARISON);
                subscription.add_comparison(hash);
                if let Some(state) = self.peers.get_mut(&peer).filter(|_| is_new) {
                    state.batches.begin_comparison();
                }
                self.serve(peer, id);
            }
            _ => self.reconciled(peer, id),
        }
    }

    /// Removes the subscriptions of clients that have left.
    pub(in crate::machine) fn remove_left(&mut self) {
        for _ in 0..SUBSCRIPTIONS_PER_POLL {
            let Some((peer, key)) = self.backlog.next_left() else { return };
            let id = self.values.id(key);
            self.values.unsubscribe(id, peer);
            self.stop_asking_if_unneeded(id);
            if !self.values.contains_key(&id) {
                self.unwatch_upstreams(id, false);
            }
        }
    }

    /// Queues a CoValue for those of its subscribers that something is pending for.
    pub(in crate::machine) fn enqueue_subscribers(&mut self, id: CoValueId, audience: Audience) {
        let subscribers = self.values.subscribers(id);
        if subscribers.len() > SUBSCRIBERS_AT_ONCE {
            return self.backlog.announce(id, audience, subscribers);
        }
        let Some(key) = self.values.key(id) else { return };
        let priority = self.priority(id);
        for peer in subscribers {
            self.peers.enqueue(*peer, key, priority, audience);
        }
    }

    fn announce_to(&mut self, portion: Portion) {
        let Portion { id, audience, peers, again } = portion;
        let Some(key) = self.values.key(id) else { return };
        let priority = self.priority(id);
        for peer in peers {
            self.peers.enqueue(peer, key, priority, audience);
        }
        if let Some(audience) = again {
            self.enqueue_subscribers(id, audience);
        }
    }
}
