//! Upstreams that are asked for a CoValue that storage does not have.

use downbeat_protocol::CoValueId;

use crate::event::{PeerId, UpstreamName};
use crate::machine::Machine;
use crate::state::entry::Entry;
use crate::state::presence::{Asked, Change, Presence};
use crate::state::timers::Timer;

impl Machine {
    /// Storage does not have a CoValue: asks the upstreams. Returns `false` if there is none to
    /// ask.
    pub(in crate::machine) fn ask_upstreams(
        &mut self,
        id: CoValueId,
        asker: Option<PeerId>,
    ) -> bool {
        let mut selected = self.selected_peers(id);
        // An upstream that is away is asked when it is back, for the clients that are subscribed
        // then.
        let mut until = self.now + self.config.load_time;
        if selected.iter().all(|(_, peer)| peer.is_none()) {
            let connects_until = |name: &UpstreamName| self.upstreams.connects_until(name);
            selected.retain(|(name, _)| connects_until(name) > self.now);
            until = selected.iter().map(|(name, _)| connects_until(name)).max().unwrap_or(0);
        } else {
            selected.retain(|(_, peer)| {
                peer.is_some_and(|peer| {
                    !self.asks_alone(peer, id, asker) && !self.lacks_it(peer, id)
                })
            });
        }
        if selected.is_empty() {
            return false;
        }
        let pending = selected.iter().map(|(name, _)| name.clone()).collect();
        self.timers.set(Timer::UpstreamAnswer, id, until);
        self.entry(id).change(Change::Asked(Asked { pending, until }));
        for (_, peer) in selected {
            if let Some(peer) = peer
                && !self.is_requested(peer, id)
            {
                self.request(peer, id, true);
            }
        }
        true
    }

    /// Whether an upstream was asked for a CoValue recently and did not have it. It sends the
    /// CoValue when it gets it, and is not asked again: where nodes are each other's upstreams,
    /// LOADs for a CoValue that does not exist would go round for ever.
    fn lacks_it(&self, peer: PeerId, id: CoValueId) -> bool {
        let needs_it = |entry: &Entry| entry.dependants().iter().any(|(_, other)| *other == peer);
        self.subscription(peer, id).is_some_and(|subscription| {
            subscription.is_asked_recently(self.now) && !subscription.known().header
        }) && !self.is_requested(peer, id)
            && !self.values.get(&id).is_some_and(needs_it)
    }

    /// Whether a peer is the only one that needs to know if a CoValue is here.
    fn asks_alone(&self, peer: PeerId, id: CoValueId, asker: Option<PeerId>) -> bool {
        let Some(entry) = self.values.get(&id) else { return asker == Some(peer) };
        let mut askers = entry.waiting.iter().map(|(other, _)| *other).chain(asker).peekable();
        askers.peek().is_some()
            && askers.all(|other| other == peer)
            && entry.dependants().is_empty()
    }

    /// Whether an upstream has to be asked for a CoValue as soon as it connects: it has not
    /// answered, or content has been waiting for the CoValue while it was away.
    pub(in crate::machine) fn is_needed_from(&self, id: CoValueId, name: &UpstreamName) -> bool {
        let Some(entry) = self.values.get(&id) else { return false };
        match entry.presence() {
            Presence::Asking(asked) => asked.pending.contains(name),
            Presence::Absent => {
                (!entry.dependants().is_empty() || !entry.held.is_empty())
                    && self.selected(id).contains(name)
            }
            Presence::Loading | Presence::Unknown(_) | Presence::Here(_) => false,
        }
    }
}
