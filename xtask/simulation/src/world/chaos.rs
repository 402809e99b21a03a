//! Injection of faults, and their end.

use downbeat_sync::{PeerId, UpstreamName};

use super::{Step, World};
use crate::link::{End, Side};

/// The maximum number of faults in a run.
const MAX_MISFORTUNES: u64 = 40;

impl World {
    pub(super) fn misfortune(&mut self) {
        let is_over = self.clients.iter().all(|client| client.is_done);
        if self.healed || is_over || self.misfortunes >= MAX_MISFORTUNES {
            return;
        }
        self.misfortunes += 1;
        let kinds = self.plan.misfortunes;
        match self.rng.below(3) {
            0 if kinds.lost_links => self.lose_a_link(),
            1 if kinds.restarts => {
                let node = self.rng.below(self.nodes.len());
                self.stop(node);
            }
            2 if kinds.slow_clients => {
                let client = self.rng.below(self.clients.len());
                let until = self.now + self.rng.time(10, 10_000);
                self.clients[client].slow_until = until;
                self.note(|| format!("client {client} reads nothing until {until}"));
            }
            _ => {}
        }
        let delay = self.rng.time(1, self.plan.misfortune_pause);
        self.schedule(delay, Step::Misfortune);
    }

    fn lose_a_link(&mut self) {
        let open: Vec<PeerId> =
            self.links.iter().filter(|(_, link)| link.open).map(|(id, _)| *id).collect();
        let Some(id) = self.rng.pick(&open).copied() else { return };
        if self.rng.percent(30) {
            let dial = self.links[&id].dial;
            self.dials[dial].blocked_until = self.now + self.rng.time(0, 5_000);
        }
        self.cut(id, 300);
    }

    /// Stops a node, which loses its memory, and starts it again later.
    fn stop(&mut self, node: usize) {
        if !self.nodes[node].up {
            return;
        }
        self.note(|| format!("node {node} goes down"));
        self.nodes[node].up = false;
        self.nodes[node].links.clear();
        let of_node: Vec<PeerId> = self
            .links
            .iter()
            .filter(|(_, link)| link.ends.contains(&End::Node(node)))
            .map(|(id, _)| *id)
            .collect();
        for id in of_node {
            let side = self.links[&id].side_of(End::Node(node));
            self.cut(id, 100);
            self.lost(id, side);
        }
        self.lose_data(node);
        let delay = self.rng.time(0, 1_000);
        self.schedule(delay, Step::Start(node));
    }

    pub(super) fn start(&mut self, node: usize) {
        self.note(|| format!("node {node} starts"));
        if self.plan.losses == 0 {
            self.check_acknowledged(node);
        }
        self.nodes[node].start(self.bugs.driver);
        self.nodes[node].machine.inject_bug(self.bugs.machine);
        for upstream in self.plan.nodes[node].upstreams.clone() {
            self.nodes[node].machine.add_upstream(node_name(upstream));
        }
        for dial in 0..self.dials.len() {
            if self.dials[dial].from == End::Node(node) {
                self.dial_later(dial, 0);
            }
        }
    }

    /// Ends all faults: disconnects the lying peers, and lets all others connect and read.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.note(|| "the faults end".to_owned());
        for dial in 0..self.dials.len() {
            let state = &mut self.dials[dial];
            state.blocked_until = 0;
            let is_liar = matches!(state.from, End::Liar(_));
            state.stopped = is_liar;
            let ends =
                is_liar || self.plan.reconnects_at_last && matches!(state.from, End::Client(_));
            if let Some(link) = state.link.filter(|_| ends) {
                self.cut(link, 0);
            }
        }
        for client in 0..self.clients.len() {
            self.clients[client].slow_until = 0;
            if let Some(link) = self.clients[client].link {
                self.schedule(0, Step::Read { link, side: Side::Dialler });
                let ids: Vec<_> = self.clients[client].copies.keys().copied().collect();
                for id in ids {
                    self.clients[client].follow(id);
                }
                self.send_outbox(client);
            }
        }
    }
}

/// The name by which other nodes know this upstream.
pub(super) fn node_name(node: usize) -> UpstreamName {
    UpstreamName::new(&format!("node{node}")).expect("the name is short")
}
