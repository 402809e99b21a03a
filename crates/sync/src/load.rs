//! LOADs of peers, and the look-ups in storage that decide what they are answered with.

use downbeat_protocol::{CoValueId, KnownState};

use crate::covalue::{Index, Presence};
use crate::event::{Loaded, PeerId, StorageFailed};
use crate::machine::Machine;
use crate::subscription::Owes;

impl Machine {
    pub(crate) fn received_load(&mut self, peer: PeerId, state: KnownState) {
        let id = state.id;
        let is_older = self.is_sending(peer, id);
        let Some(subscription) = self.subscribe(peer, id) else { return };
        subscription.replace(state);
        subscription.forget_corrections();
        subscription.set_older(is_older);
        subscription.claimed = true;
        let is_owed_correction = subscription.owes.has(Owes::CORRECTION);
        subscription.owes.add(Owes::REPLY);
        if is_owed_correction {
            // It need not wait for its time any longer.
            self.owe(peer, id);
        }
        if self.is_client(peer) {
            return self.serve_in_turn(peer, id);
        }
        if let Some(subscription) = self.subscription_mut(peer, id) {
            // The answer does what a LOAD would do.
            subscription.asked = true;
        }
        self.serve(peer, id);
    }

    /// Serves a client's LOAD behind those before it that storage has not answered. A client that
    /// is told of a CoValue before the group that owns it sends both in the wrong order.
    fn serve_in_turn(&mut self, peer: PeerId, id: CoValueId) {
        let is_loading = matches!(self.entry(id).presence, Presence::Loading);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !is_loading && state.loading.is_empty() {
            return self.serve(peer, id);
        }
        if let Some(subscription) = self.subscription_mut(peer, id)
            && !std::mem::replace(&mut subscription.in_turn, true)
            && let Some(state) = self.peers.get_mut(&peer)
        {
            state.loading.push_back(id);
        }
        if is_loading {
            self.wait_for(peer, id);
        }
    }

    /// Serves the LOADs of a client whose turn has come.
    fn serve_next(&mut self, peer: PeerId) {
        while let Some(&id) = self.peers.get(&peer).and_then(|state| state.loading.front()) {
            let presence = self.values.get(&id).map(|entry| &entry.presence);
            if matches!(presence, Some(Presence::Loading)) {
                // It may have been forgotten and come back since.
                return self.wait_for(peer, id);
            }
            if let Some(state) = self.peers.get_mut(&peer) {
                state.loading.pop_front();
            }
            if let Some(subscription) = self.subscription_mut(peer, id) {
                subscription.in_turn = false;
                self.serve(peer, id);
            }
        }
    }

    /// Storage has answered: goes on with the LOADs that waited for that.
    fn serve_waiting(&mut self, id: CoValueId) {
        let waiting = self.values.get(&id).map_or(&[][..], |entry| &entry.waiting);
        let is_in_turn = |(peer, served): &(PeerId, CoValueId)| {
            *served == id && self.subscription(*peer, id).is_some_and(|state| state.in_turn)
        };
        let peers: Vec<PeerId> =
            waiting.iter().filter(|waits| is_in_turn(waits)).map(|(peer, _)| *peer).collect();
        for peer in peers {
            self.serve_next(peer);
        }
    }

    /// Lets a peer have what it lacks of a CoValue, once it is known whether it is there.
    pub(crate) fn serve(&mut self, peer: PeerId, id: CoValueId) {
        let entry = self.entry(id);
        let is_absent = matches!(entry.presence, Presence::Absent);
        let asks = self.subscription(peer, id).is_some_and(|state| state.owes.has(Owes::REPLY));
        if is_absent && !(asks && self.ask_upstreams(id, Some(peer))) {
            self.answer_not_found(peer, id);
            return self.owe(peer, id);
        }
        let entry = self.entry(id);
        if entry.is_undecided() {
            self.wait_for(peer, id);
        } else {
            self.owe(peer, id);
            self.watch_upstream(id);
        }
    }

    /// Serves a peer when it has become known whether a CoValue is there.
    pub(crate) fn wait_for(&mut self, peer: PeerId, id: CoValueId) {
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        if !std::mem::replace(&mut subscription.waits, true) {
            self.entry(id).waiting.push((peer, id));
        }
    }

    fn answer_not_found(&mut self, peer: PeerId, id: CoValueId) {
        if let Some(subscription) = self.subscription_mut(peer, id)
            && subscription.owes.take(Owes::REPLY)
        {
            subscription.owes.add(Owes::NOT_FOUND);
        }
    }

    pub(crate) fn loaded(
        &mut self,
        id: CoValueId,
        result: Result<Option<Box<Loaded>>, StorageFailed>,
    ) {
        let Some(entry) = self.values.get_mut(&id) else { return };
        if !matches!(entry.presence, Presence::Loading) {
            return;
        }
        match result {
            Err(StorageFailed) => {
                let retry = self.now + self.config.storage_retry;
                entry.presence = Presence::Unknown(retry);
                self.timers.insert((retry, id));
                return self.serve_waiting(id);
            }
            Ok(None) => {
                entry.presence = Presence::Absent;
                self.recall_agreement(id);
                if self.ask_upstreams(id, None) {
                    self.owe_what_waited_for_storage(id);
                    // Those who sent what depends on it may have it as well.
                    self.take_inbox(id);
                    self.ask_for_dependency(id);
                    return self.serve_waiting(id);
                }
            }
            Ok(Some(loaded)) => {
                let mut index = Index::new(loaded.header, loaded.sessions);
                if loaded.deleted {
                    index.delete();
                }
                entry.presence = Presence::Here(Box::new(index));
                entry.dependencies.extend(loaded.dependencies);
            }
        }
        self.recall_agreement(id);
        self.decided(id);
    }

    /// It has become known whether a CoValue is there: goes on with everything that waited.
    pub(crate) fn decided(&mut self, id: CoValueId) {
        let entry = self.entry(id);
        let here = entry.index().is_some();
        let mut waiting = std::mem::take(&mut entry.waiting);
        waiting.retain(|&(peer, served)| {
            if served != id {
                self.continue_walk(peer, served, id);
                return false;
            }
            if let Some(subscription) = self.subscription_mut(peer, id) {
                subscription.waits = false;
                if subscription.in_turn {
                    return true;
                }
            }
            if !here {
                self.answer_not_found(peer, id);
            }
            self.owe(peer, id);
            false
        });
        if here {
            self.found_after_all(id);
        }
        self.take_inbox(id);
        for (peer, _) in waiting {
            self.serve_next(peer);
        }
        if self.values.get(&id).is_some_and(|entry| entry.index().is_some()) {
            self.watch_upstream(id);
            self.release_dependants(id);
            self.watch_parents(id);
        } else {
            self.ask_for_dependency(id);
        }
    }

    /// Peers that were to be told that nobody has a CoValue, and have not been, get it instead.
    fn found_after_all(&mut self, id: CoValueId) {
        for number in 0..self.values.subscribers(id).len() {
            let Some(&peer) = self.values.subscribers(id).get(number) else { return };
            if let Some(subscription) = self.subscription_mut(peer, id)
                && subscription.owes.take(Owes::NOT_FOUND)
            {
                subscription.owes.add(Owes::REPLY);
            }
        }
    }

    /// Goes on with the content that came while storage was asked.
    fn take_inbox(&mut self, id: CoValueId) {
        for (peer, content, waited) in std::mem::take(&mut self.entry(id).inbox) {
            self.take_content(peer, content, waited);
        }
    }
}
