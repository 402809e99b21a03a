//! Event `Loaded`: storage has answered, and what waited for that goes on.

use downbeat_protocol::CoValueId;

use crate::event::{Loaded, PeerId, StorageFailed};
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::state::index::Index;
use crate::state::presence::Change;
use crate::state::subscription::{PendingReplies, Subscription};
use crate::state::timers::Timer;

impl Machine {
    pub(in crate::machine) fn loaded(
        &mut self,
        id: CoValueId,
        result: Result<Option<Box<Loaded>>, StorageFailed>,
    ) {
        let Some(entry) = self.values.get_mut(&id) else { return };
        if !entry.presence().is_loading() {
            return;
        }
        match result {
            Err(StorageFailed) => {
                let retry_at = self.now + self.config.storage_retry;
                entry.change(Change::StorageFailed { retry_at });
                self.timers.set(Timer::StorageRetry, id, retry_at);
                return self.serve_waiting(id);
            }
            Ok(None) => {
                entry.change(Change::NotStored);
                self.recall_agreement(id);
                if self.ask_upstreams(id, None) {
                    self.enqueue_before_upstreams(id);
                    // The peers that sent its dependants may have it as well.
                    self.take_inbox(id);
                    self.ask_for_dependency(id);
                    return self.serve_waiting(id);
                }
            }
            Ok(Some(loaded)) => {
                let index = Index::stored(loaded.header, loaded.sessions, loaded.deleted);
                entry.change(Change::Stored(Box::new(index)));
                entry.add_dependencies(loaded.dependencies);
            }
        }
        self.recall_agreement(id);
        self.decided(id);
    }

    /// Storage has answered: goes on with the LOADs that waited for that.
    fn serve_waiting(&mut self, id: CoValueId) {
        let waiting = self.values.get(&id).map_or(&[][..], |entry| &entry.waiting);
        let is_in_turn = |(peer, served): &(PeerId, CoValueId)| {
            *served == id && self.subscription(*peer, id).is_some_and(Subscription::is_in_turn)
        };
        let peers: Vec<PeerId> =
            waiting.iter().filter(|waits| is_in_turn(waits)).map(|(peer, _)| *peer).collect();
        for peer in peers {
            self.serve_next(peer);
        }
    }

    /// Storage does not have a CoValue, and upstreams are being asked: queues the messages that do
    /// not wait for upstreams. The LOAD that is waited for may be one of them, if the upstream has
    /// connected meanwhile.
    fn enqueue_before_upstreams(&mut self, id: CoValueId) {
        if self.has_bug(InjectedBug::AskNoLateUpstream) {
            return;
        }
        let is_pending = |subscription: &Subscription| {
            subscription.replies.has(PendingReplies::BEFORE_UPSTREAMS)
        };
        let count = self.values.get(&id).map_or(0, |entry| entry.waiting.len());
        for number in 0..count {
            let waiting = self.values.get(&id).and_then(|entry| entry.waiting.get(number));
            let Some(&(peer, served)) = waiting else { return };
            if served == id && self.subscription(peer, id).is_some_and(is_pending) {
                self.enqueue(peer, id);
            }
        }
    }

    /// It has become known whether a CoValue is here: goes on with everything that waited.
    pub(in crate::machine) fn decided(&mut self, id: CoValueId) {
        let entry = self.entry(id);
        let is_here = entry.index().is_some();
        let mut waiting = std::mem::take(&mut entry.waiting);
        waiting.retain(|&(peer, served)| {
            if served != id {
                self.continue_walk(peer, served, id);
                return false;
            }
            if let Some(subscription) = self.subscription_mut(peer, id) {
                subscription.end_waiting();
                if subscription.is_in_turn() {
                    return true;
                }
            }
            if !is_here {
                self.answer_not_found(peer, id);
            }
            self.enqueue(peer, id);
            false
        });
        if is_here {
            self.found_after_all(id);
        }
        self.take_inbox(id);
        for (peer, _) in waiting {
            self.serve_next(peer);
        }
        if self.index(id).is_some() {
            self.watch_upstreams(id);
            self.release_dependants(id);
            self.watch_parents(id);
        } else {
            self.ask_for_dependency(id);
        }
    }

    /// Peers that were to get a KNOWN that a CoValue does not exist, and did not yet, get it
    /// instead.
    fn found_after_all(&mut self, id: CoValueId) {
        for number in 0..self.values.subscribers(id).len() {
            let Some(&peer) = self.values.subscribers(id).get(number) else { return };
            if let Some(subscription) = self.subscription_mut(peer, id)
                && subscription.replies.take(PendingReplies::NOT_FOUND)
            {
                subscription.replies.add(PendingReplies::REPLY);
            }
        }
    }
}
