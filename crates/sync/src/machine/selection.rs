//! The upstreams of each CoValue, and their connections.

use downbeat_protocol::{CoValueId, UpstreamName};

use crate::event::PeerId;
use crate::machine::Machine;
use crate::state::peer::Peer;
use crate::state::upstream_link::UpstreamLink;

impl Machine {
    /// Whether an upstream that may have a CoValue is not connected.
    pub fn is_upstream_away(&self, id: CoValueId) -> bool {
        self.selected_peers(id).iter().any(|(_, peer)| peer.is_none())
    }

    /// The upstreams that a CoValue is synced with, each with its connection if it has one.
    pub(in crate::machine) fn selected_peers(
        &self,
        id: CoValueId,
    ) -> Vec<(UpstreamName, Option<PeerId>)> {
        if self.upstreams.is_empty() {
            return Vec::new();
        }
        let peer = |name: &UpstreamName| self.upstreams.peer(name);
        self.selected(id).into_iter().map(|name| (name.clone(), peer(&name))).collect()
    }

    /// The upstreams that a CoValue is synced with.
    pub(in crate::machine) fn selected(&self, id: CoValueId) -> Vec<UpstreamName> {
        self.upstreams.selected(id, self.config.upstreams_per_co_value)
    }

    /// The connection to an upstream.
    pub(in crate::machine) fn link_mut(&mut self, peer: PeerId) -> Option<&mut UpstreamLink> {
        self.peers.upstream_mut(peer)
    }

    pub(in crate::machine) fn upstream_name(&self, peer: PeerId) -> Option<UpstreamName> {
        self.peers.get(&peer).and_then(Peer::upstream_name).cloned()
    }

    /// Whether a LOAD to an upstream is in flight.
    pub(in crate::machine) fn is_requested(&self, peer: PeerId, id: CoValueId) -> bool {
        let link = self.peers.get(&peer).and_then(Peer::upstream);
        link.is_some_and(|link| link.requests.is_in_flight(id))
    }
}
