//! What the node's handle asks of the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_protocol::{CoValueId, KnownState};
use downbeat_sync::Event;
use downbeat_transport::{CloseReason, PeerInfo};
use tokio::sync::oneshot;
use tracing::{debug, info};

use super::{Connected, Draining, Engine, not_connected};
use crate::link::{Kind, Link};
use crate::stats::{Stats, UpstreamStats};

/// How long a draining engine waits until peers have read their acknowledgements: most of the time
/// for closing connections. A peer that does not read learns of them when it reconnects.
const TELL_TIME: Duration = Duration::from_secs(2);

/// Orders from the node's handle.
pub(crate) enum Command {
    /// A peer has connected; its tasks are started when this has been answered.
    Connect(Arc<Link>, oneshot::Sender<()>),
    /// End the connections of the clients for which this is true, and answer with their number.
    Disconnect(Box<dyn Fn(&PeerInfo) -> bool + Send>, CloseReason, oneshot::Sender<usize>),
    /// Answer when everything taken in is durable and acknowledged, within this time, and tell
    /// since when it is durable.
    Drain(Duration, oneshot::Sender<Instant>),
    /// Tell how the node is.
    Stats(oneshot::Sender<Stats>),
    /// Tell how the upstreams are.
    Upstreams(oneshot::Sender<Vec<UpstreamStats>>),
    /// Answer when the upstreams have acknowledged this much of a CoValue.
    AwaitSynced(KnownState, oneshot::Sender<()>),
    /// Tell whether an upstream that may have a CoValue is not connected.
    IsUpstreamAway(CoValueId, oneshot::Sender<bool>),
}

impl Engine {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Connect(link, done) => {
                self.connect(link);
                let _ = done.send(());
            }
            Command::Disconnect(is_meant, reason, done) => {
                let _ = done.send(self.disconnect(&*is_meant, &reason));
            }
            Command::Drain(time, done) => {
                // So that peers have time to read acknowledgements of content that is stored late.
                let tell_time = TELL_TIME.min(time / 2);
                self.draining = Some(Draining { done, tell_time, stored: None });
            }
            Command::Stats(done) => {
                let _ = done.send(self.stats());
            }
            Command::Upstreams(done) => {
                let _ = done.send(self.upstreams.values().cloned().collect());
            }
            Command::IsUpstreamAway(id, done) => {
                let _ = done.send(self.machine.is_upstream_away(id));
            }
            Command::AwaitSynced(state, done) => {
                let id = state.id;
                self.synced.add(state, done);
                self.synced.answer(id, &self.machine);
            }
        }
    }

    fn connect(&mut self, link: Arc<Link>) {
        let (peer, role) = (link.peer, link.kind.role());
        debug!(peer = %link.info.address, ?role, "connected");
        if let Kind::Upstream(name) = &link.kind {
            info!(upstream = %name, "connected to the upstream");
            let state = UpstreamStats { connected: true, ..not_connected(name.clone()) };
            self.upstreams.insert(name.clone(), state);
        }
        self.links.insert(peer, Connected { link, busy: false });
        let now = self.now();
        self.machine.handle(now, Event::Connected { peer, role });
    }

    fn disconnect(&self, is_meant: &dyn Fn(&PeerInfo) -> bool, reason: &CloseReason) -> usize {
        let clients = self.links.values().map(|connected| &connected.link);
        let clients = clients.filter(|link| matches!(link.kind, Kind::Client));
        let mut count = 0;
        for link in clients.filter(|link| is_meant(&link.info)) {
            link.close(reason.clone());
            count += 1;
        }
        count
    }

    fn stats(&self) -> Stats {
        let mut stats = self.counters.snapshot();
        let mut by_key = BTreeMap::new();
        for Connected { link, .. } in self.links.values() {
            let peers = &mut stats.peers;
            let count = match link.kind {
                Kind::Upstream(_) => &mut peers.upstreams,
                Kind::Local(_) => &mut peers.local,
                Kind::Client => &mut peers.clients,
            };
            *count += 1;
            if let Some(key) = &link.key {
                *by_key.entry(Arc::clone(key.label())).or_default() += 1;
            }
        }
        stats.upstreams = self.upstreams.values().cloned().collect();
        stats.keys = self.usage.key_stats(&by_key);
        stats.accounts = self.usage.account_stats();
        let memory = &mut stats.memory;
        memory.warm_co_values = self.machine.warm_co_values() as u64;
        memory.machine = self.machine.memory();
        memory.content_bytes = self.content.recent_bytes();
        memory.pooled_credit_bytes = self.credit.used();
        memory.output_bytes = self.output.used();
        memory.unverified_jobs = self.verifier.len() as u64;
        memory.unstored_jobs = self.writer.len() as u64;
        stats
    }
}
