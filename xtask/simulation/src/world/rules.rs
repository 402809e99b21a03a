//! The rules for every step, and for the end of a run.

use std::collections::BTreeSet;

use downbeat_core::{DeleteError, known_state};
use downbeat_driver::block_on;
use downbeat_protocol::{CoValueId, KnownState, Message, SessionContent, SessionCounts};
use downbeat_storage::Storage;
use downbeat_sync::{Item, PeerId, Rejection, Report, StoreJob};

use super::World;
use super::chaos::node_name;
use crate::link::End;
use crate::log::describe_counts;

/// The maximum number of times that a client sends a transaction over one connection. It sends the
/// transaction once by itself, and again after each correction or LOAD of the node. The node spaces
/// its corrections, so these are few.
const MAX_SENT: u32 = 10;

impl World {
    /// Checks that a peer has one turn at a time, and that the node claims only durable content.
    pub(super) fn check_turn(&mut self, node: usize, peer: PeerId, items: &[Item]) {
        if let Some(account) = self.nodes[node].links.get_mut(&peer) {
            account.is_awaited = false;
            if std::mem::replace(&mut account.busy, true) {
                self.fail(|| format!("node {node} gives {peer:?} a second turn"));
            }
        }
        for item in items {
            if let Item::Message(Message::ReconcileAck(_)) = item {
                self.check_comparison(node, peer);
            }
            let (state, is_known) = match item {
                Item::Message(Message::Known(known)) => (&known.state, true),
                Item::Message(Message::Load(state)) => (state, false),
                Item::Message(_) | Item::Content(_) => continue,
            };
            // A LOAD that has the header but no transactions acknowledges nothing.
            if !state.header || !is_known && state.sessions.is_empty() {
                continue;
            }
            let id = state.id;
            match self.nodes[node].durable(id) {
                Some((_, true)) => {}
                Some((durable, false)) if known_state::is_subset(&state.sessions, &durable) => {}
                Some((durable, false)) => self.fail(|| {
                    format!(
                        "node {node} claims {id}{}, but only{} is durable",
                        describe_counts(&state.sessions),
                        describe_counts(&durable)
                    )
                }),
                None => {
                    self.fail(|| format!("node {node} claims {id}, which is not durable"));
                }
            }
        }
    }

    /// Checks that a RECONCILE message is acknowledged only when all compared content is durable.
    fn check_comparison(&mut self, node: usize, peer: PeerId) {
        let Some(link) = self.links.get(&peer) else { return };
        let End::Client(client) = link.end(link.side_of(End::Node(node)).other()) else { return };
        if self.clients[client].link != Some(peer) {
            return;
        }
        let is_exempt = |id: &CoValueId| {
            self.clients[client].forked.contains(id)
                || self.refused.contains(id)
                || self.suspect.contains(id)
        };
        let early = self.clients[client].compared.values().find(|state| {
            !is_exempt(&state.id)
                && match self.nodes[node].durable(state.id) {
                    Some((durable, deleted)) => {
                        !deleted && !known_state::is_subset(&state.sessions, &durable)
                    }
                    None => true,
                }
        });
        if let Some(id) = early.map(|state| state.id) {
            self.fail(|| {
                format!("node {node} acknowledges a RECONCILE message before {id} is durable")
            });
        }
    }

    /// Checks that a client does not send the same transaction too often.
    pub(super) fn check_repeats(&mut self, client: usize, message: &Message) {
        let Message::Content(content) = message else { return };
        for run in &content.sessions {
            for index in run.after..run.end() {
                let key = (content.id, run.session.clone(), index);
                let sent = self.clients[client].sent.entry(key).or_default();
                *sent += 1;
                if *sent > MAX_SENT {
                    let (id, session) = (content.id, &run.session);
                    return self.fail(|| {
                        format!("client {client} sends {id} {session} {index} too often")
                    });
                }
            }
        }
    }

    /// Checks that a node sends only verified content.
    pub(super) fn check_sent(&mut self, node: usize, message: &Message) {
        if let Message::Content(content) = message {
            for run in &content.sessions {
                self.check_run(node, "sends", content.id, run);
            }
        }
    }

    /// Checks that a node stores only verified content.
    pub(super) fn check_store(&mut self, node: usize, job: &StoreJob) {
        for run in &job.sessions {
            self.check_run(node, "stores", job.id, run);
        }
    }

    fn check_run(&mut self, node: usize, does: &str, id: CoValueId, run: &SessionContent) {
        if !self.truth.holds(id, run) {
            let (session, after, end) = (&run.session, run.after, run.end());
            self.fail(|| {
                format!("node {node} {does} {id} {session} {after} to {end}, which is not signed")
            });
        }
    }

    /// Checks that durable content only grows, except by deletion.
    pub(super) fn check_growth(
        &mut self,
        node: usize,
        id: CoValueId,
        before: Option<&(SessionCounts, bool)>,
    ) {
        let after = self.nodes[node].durable(id);
        let grew = match (before, &after) {
            (None, _) | (Some((_, false)), Some((_, true))) => true,
            (Some(_), None) | (Some((_, true)), Some((_, false))) => false,
            (Some((old, _)), Some((new, _))) => known_state::is_subset(old, new),
        };
        if !grew {
            self.fail(|| format!("node {node} has less of {id} than before"));
        }
    }

    /// Checks that acknowledged content is durable.
    pub(super) fn check_acknowledged(&mut self, node: usize) {
        let state = &self.nodes[node];
        // A node may refuse lost content when a client sends it again.
        let may_be_lost =
            |seen: &&KnownState| self.plan.losses > 0 && self.refused.contains(&seen.id);
        let mut seen = state.acknowledged.values().filter(|seen| !may_be_lost(seen));
        let lost = seen.find(|seen| match state.durable(seen.id) {
            Some((durable, deleted)) => {
                !deleted && !known_state::is_subset(&seen.sessions, &durable)
            }
            None => seen.header,
        });
        if let Some(id) = lost.map(|seen| seen.id) {
            self.fail(|| format!("node {node} has lost acknowledged content of {id}"));
        }
    }

    /// Checks the bounds of memory and queues, and that no peer waits without being queued.
    pub(super) fn check_bounds(&mut self, node: usize) {
        let state = &self.nodes[node];
        let peers = state.machine.peers() as u64;
        let bound = state.plan.config.held_bytes_per_peer * (peers + 1);
        if state.machine.held_bytes() > bound {
            self.fail(|| format!("node {node} holds more bytes than its bound"));
        }
        let overfull = self.nodes[node].machine.overfull();
        if !overfull.is_empty() {
            self.fail(|| format!("node {node}: {}", overfull.join("; ")));
        }
        let stranded = self.nodes[node].machine.stranded();
        if !stranded.is_empty() {
            self.fail(|| format!("node {node}: {}", stranded.join("; ")));
        }
        let state = &self.nodes[node];
        if state.machine.peers() != state.links.len() {
            self.fail(|| format!("the peers of node {node} differ from its links"));
        }
    }

    /// Checks that a report does not blame an honest peer.
    pub(super) fn check_report(&mut self, node: usize, report: &Report) {
        let from = self.links.get(&report.peer).map(|link| {
            let side = link.side_of(End::Node(node)).other();
            link.end(side)
        });
        self.note(|| format!("node {node} ✗ {from:?} {} {}", report.id, report.rejection));
        let has_forked = match from {
            Some(End::Client(client)) => self.clients[client].forked.contains(&report.id),
            _ => false,
        };
        let is_honest = matches!(from, Some(End::Node(_) | End::Client(_)));
        let is_blame = !self.suspect.contains(&report.id)
            && !matches!(
                report.rejection,
                Rejection::MissingDependency(_)
                    | Rejection::HeldTooMuch
                    | Rejection::TooManySubscriptions
                    | Rejection::InvalidDelete(DeleteError::NotAdmin(_) | DeleteError::RoleUnknown)
            );
        if is_honest && is_blame && !has_forked {
            self.fail(|| {
                format!("node {node} blames {from:?}: {} {}", report.id, report.rejection)
            });
        }
    }

    /// Checks the rules for the end of a run, when the faults have ended and no steps are left.
    pub(super) fn check_end(&mut self) {
        for node in 0..self.nodes.len() {
            self.check_acknowledged(node);
            self.check_quiet(node);
            self.check_logs(node);
        }
        for value in self.values.clone() {
            self.check_agreement(value.id);
        }
        for client in 0..self.clients.len() {
            self.check_client(client);
        }
    }

    /// Checks that no work is in progress, and that all credit is released.
    fn check_quiet(&mut self, node: usize) {
        let state = &self.nodes[node];
        let accounts = state.links.iter().chain(&state.ended);
        let kept: Vec<_> = accounts
            .filter(|(_, account)| account.taken != account.released)
            .map(|(peer, account)| format!("{} of {peer:?}", account.taken - account.released))
            .collect();
        let held = state.machine.held_bytes();
        let warm = state.machine.warm_co_values();
        let bound = state.plan.config.warm_co_values;
        let is_idle = state.up && state.jobs.is_empty() && !state.writing;
        let is_busy = state.links.values().any(|account| account.busy);
        if !kept.is_empty() {
            self.fail(|| format!("node {node} has not released {}", kept.join(", ")));
        }
        if held > 0 {
            self.fail(|| format!("node {node} still holds {held} bytes"));
        }
        if !is_idle || is_busy {
            self.fail(|| format!("node {node} is not idle"));
        }
        let unfinished = self.nodes[node].machine.unfinished();
        if !unfinished.is_empty() {
            self.fail(|| format!("node {node} has not finished: {}", unfinished.join("; ")));
        }
        if warm > bound {
            self.fail(|| format!("node {node} keeps {warm} CoValues, more than {bound}"));
        }
    }

    /// Checks that every stored log is verified content.
    fn check_logs(&mut self, node: usize) {
        for id in self.nodes[node].stored_ids() {
            let storage = &self.nodes[node].storage;
            let runs = block_on(storage.read(id, &SessionCounts::new(), usize::MAX));
            for run in runs.unwrap_or_default() {
                self.check_run(node, "has stored", id, &run);
            }
        }
    }

    /// Checks that a node has all content of its upstreams if a client is subscribed, and that
    /// upstreams have all content of their downstream nodes.
    fn check_agreement(&mut self, id: CoValueId) {
        if self.refused.contains(&id) {
            // A node may have refused content that another node has accepted.
            return;
        }
        let is_subscribed = |client: &&crate::client::Client| client.copies.contains_key(&id);
        let homes = self.clients.iter().filter(is_subscribed).map(|client| client.home);
        let mut watched: BTreeSet<usize> = homes.collect();
        let mut open: Vec<usize> = watched.iter().copied().collect();
        while let Some(node) = open.pop() {
            for upstream in self.upstreams_of(node, id) {
                if watched.insert(upstream) {
                    open.push(upstream);
                }
            }
        }
        for node in 0..self.nodes.len() {
            let ours = self.nodes[node].durable(id);
            for upstream in self.upstreams_of(node, id) {
                let theirs = self.nodes[upstream].durable(id);
                let is_there = match (&ours, &theirs) {
                    (None, _) | (Some((_, false)), Some((_, true))) => true,
                    (Some(_), None) | (Some((_, true)), Some((_, false))) => false,
                    (Some((ours, _)), Some((theirs, _))) => known_state::is_subset(ours, theirs),
                };
                if !is_there || watched.contains(&node) && ours != theirs {
                    self.fail(|| {
                        format!(
                            "node {node} and its upstream {upstream} differ in {id}: \
                             {ours:?} and {theirs:?}"
                        )
                    });
                }
            }
        }
    }

    /// The upstreams that a node syncs a CoValue with.
    fn upstreams_of(&self, node: usize, id: CoValueId) -> Vec<usize> {
        let selected = self.nodes[node].machine.upstreams_of(id);
        let mut upstreams = self.plan.nodes[node].upstreams.clone();
        upstreams.retain(|upstream| selected.contains(&node_name(*upstream)));
        upstreams
    }

    /// Checks that a client has the same content as its node, and that all of it is acknowledged.
    fn check_client(&mut self, client: usize) {
        let state = &self.clients[client];
        if state.comparing.is_some() {
            self.fail(|| format!("client {client} waits for a RECONCILE-ACK"));
        }
        let state = &self.clients[client];
        let home = state.home;
        // The copies of a forked CoValue stay different.
        let agrees = |id: &&CoValueId| !state.forked.contains(id) && !self.refused.contains(id);
        let ids: Vec<CoValueId> = state.copies.keys().filter(agrees).copied().collect();
        for id in ids {
            let copy = &self.clients[client].copies[&id];
            let there = self.nodes[home].durable(id);
            let here =
                copy.value.as_ref().map(|value| (value.known_state().sessions, value.is_deleted()));
            let acknowledged = copy.server.clone();
            if here != there {
                self.fail(|| {
                    format!("client {client} and node {home} differ in {id}: {here:?}, {there:?}")
                });
            } else if let Some((sessions, false)) = &here
                && !acknowledged.as_ref().is_some_and(|seen| {
                    seen.header && known_state::is_subset(sessions, &seen.sessions)
                })
            {
                self.fail(|| {
                    format!("client {client} has no acknowledgement of all of {id}, only of {acknowledged:?}")
                });
            }
        }
    }
}
