//! A view into the machine, and bugs in it, for the simulation and the tests.

use downbeat_protocol::{CoValueId, UpstreamName};

use crate::event::PeerId;
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::state::batches::MAX_OPEN_BATCHES;
use crate::state::peer::Peer;
use crate::state::presence::Presence;
use crate::state::subscription::{PendingReplies, Subscription};
use crate::state::upstream_link::Requests;

impl Machine {
    /// Injects a bug, or removes it.
    pub fn inject_bug(&mut self, bug: Option<InjectedBug>) {
        self.bug = bug;
    }

    /// The names of the upstreams that a CoValue is synced with.
    pub fn upstreams_of(&self, id: CoValueId) -> Vec<UpstreamName> {
        self.selected(id)
    }

    /// The number of CoValues that are noted in memory as not acknowledged by an upstream.
    pub fn noted_in_memory(&self) -> usize {
        self.unsynced.len()
    }

    /// LOADs to an upstream that are in flight, or wait until fewer are.
    pub fn loads_to(&self, peer: PeerId) -> usize {
        let link = self.peers.get(&peer).and_then(Peer::upstream);
        link.map_or(0, |link| link.requests.in_flight() + link.requests.waiting())
    }

    /// Describes the queues beyond their bound, and the peers whose memory is miscounted.
    pub fn overfull(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut check = |what: String, len: usize, bound: usize| {
            if len > bound {
                lines.push(format!("{what} has {len}, and may have {bound}"));
            }
        };
        let (len, bound) = self.chain_uses.len_and_bound(self.warm_chains);
        check("the list of used chains".to_owned(), len, bound);
        check("the number of chains".to_owned(), self.warm_chains, self.config.warm_chains);
        check("the list of ready peers".to_owned(), self.peers.ready(), self.peers.len());
        for (id, peer) in self.peers.iter() {
            let subscriptions = peer.subscription_count();
            // An upstream also has subscriptions to dependencies.
            let bound =
                if peer.is_client() { self.config.subscriptions_per_peer } else { usize::MAX };
            check(format!("{id:?} subscriptions"), subscriptions, bound);
            check(format!("{id:?} queue"), peer.queued(), subscriptions);
            if let Some(link) = peer.upstream() {
                check(format!("{id:?} loads"), link.requests.in_flight(), subscriptions);
                let bound = Requests::waiting_bound(subscriptions);
                check(format!("{id:?} waiting loads"), link.requests.waiting(), bound);
            }
            check(format!("{id:?} batches"), peer.batches.len(), MAX_OPEN_BATCHES);
            let bound = usize::try_from(self.config.held_bytes_per_peer).unwrap_or(usize::MAX);
            let held = usize::try_from(peer.held.bytes()).unwrap_or(bound);
            check(format!("{id:?} held"), held, bound);
        }
        let miscounted = self.peers.miscounted();
        lines.extend(miscounted.map(|id| format!("{id:?} keeps other bytes than were counted")));
        lines.sort();
        lines
    }

    /// Describes the peers that wait until it is known whether a CoValue is here, have a pending
    /// message that need not wait for that, and are not queued for it.
    pub fn stranded(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (id, entry) in self.values.iter().filter(|(_, entry)| !entry.waiting.is_empty()) {
            let due = match entry.presence() {
                Presence::Loading | Presence::Unknown(_) => continue,
                Presence::Asking(_) | Presence::Absent => PendingReplies::BEFORE_UPSTREAMS,
                // A correction waits until a KNOWN may be sent.
                Presence::Here(_) => PendingReplies::LOAD,
            };
            let is_stranded = |subscription: &Subscription| {
                let mut replies = subscription.replies;
                if subscription.correction_due(self.now).is_some() {
                    // A timer brings it.
                    replies.take(PendingReplies::CORRECTION);
                }
                replies.has(due) && !subscription.is_queued()
            };
            for (peer, _) in entry.waiting.iter().filter(|(_, served)| *served == id) {
                if self.subscription(*peer, id).is_some_and(is_stranded) {
                    lines.push(format!("{peer:?} waits for its part in {id}"));
                }
            }
        }
        lines.sort();
        lines
    }

    /// Describes everything in progress. The list is empty once all work has come to its end.
    pub fn unfinished(&self) -> Vec<String> {
        let busy = self.values.iter().filter(|(_, entry)| !entry.is_quiet());
        let mut lines: Vec<String> =
            busy.map(|(id, entry)| format!("{id}: {}", entry.describe())).collect();
        let walks = self.walks.goals().map(|(peer, id)| format!("a walk for {peer:?} to {id}"));
        lines.extend(walks);
        let waiting = self.peers.iter().filter(|(_, peer)| !peer.has_nothing_to_send());
        lines.extend(waiting.map(|(peer, _)| format!("something to send to {peer:?}")));
        lines.sort();
        lines
    }
}
