//! The handle to a running node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_storage::StorageError;
use downbeat_transport::{CloseReason, Connection, PeerInfo};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::warn;

use crate::engine::Command;
use crate::error::{NodeError, upstream_name};
use crate::limits::KeyLimits;
use crate::link::Kind;
use crate::local::Local;
use crate::ready::{self, Readiness};
use crate::shared::Shared;
use crate::stage::Stage;
use crate::stats::Stats;

/// How long a shutdown waits, once everything is stored, until peers have read their
/// acknowledgements and connections are closed.
const CLOSE_TIME: Duration = Duration::from_secs(3);

/// Unsynced entries that are counted for the statistics at most.
const MAX_UNSYNCED_COUNTED: u64 = 10_000;

/// Unsynced entries that are read with one call.
const UNSYNCED_PAGE: usize = 1_000;

/// A running node. Dropping it ends the node without storing all accepted content; see
/// [`Node::shutdown`].
pub struct Node {
    shared: Arc<Shared>,
    /// The node's tasks; they are aborted when the node is dropped.
    tasks: JoinSet<()>,
    verifiers: Vec<std::thread::JoinHandle<()>>,
    drain_time: Duration,
}

impl Node {
    /// Serves a peer over a connection, until the connection ends.
    pub async fn connect(&self, connection: Connection) -> Result<(), NodeError> {
        self.shared.serve(connection, Kind::Client).await.map(|_| ())
    }

    /// Treats the peer at the other end of a connection as an upstream, until the connection ends.
    /// The name identifies the upstream in storage and in the choice among several upstreams, so it
    /// must be the same for every connection to the same server.
    pub async fn connect_upstream(
        &self,
        name: &str,
        connection: Connection,
    ) -> Result<(), NodeError> {
        let name = upstream_name(name)?;
        self.shared.serve(connection, Kind::Upstream(name)).await.map(|_| ())
    }

    /// Reads and writes CoValues in this program.
    pub fn local(&self) -> Local {
        Local::new(Arc::downgrade(&self.shared))
    }

    /// Ends the connections of clients for which `is_meant` is true, with a reason. Returns their
    /// number. What they sent before is stored; upstreams, and the program's own CoValues, are
    /// not asked about.
    ///
    /// Clients that connect at the same time may be missed: stop admitting them first.
    pub async fn disconnect(
        &self,
        is_meant: impl Fn(&PeerInfo) -> bool + Send + 'static,
        reason: CloseReason,
    ) -> Result<usize, NodeError> {
        self.ask(|done| Command::Disconnect(Box::new(is_meant), reason, done)).await
    }

    /// Gives an access key limits of its own, or with `None` the limits of all keys
    /// ([`NodeLimits::key`](crate::NodeLimits::key)). They take effect at once, also for open
    /// connections.
    pub fn limit_key(&self, label: &str, limits: Option<KeyLimits>) {
        self.shared.context.usage.limit(&label.into(), limits);
    }

    /// Removes the access keys for which `is_gone` is true from [`Node::stats`], together with
    /// their own limits. A key comes back when a client uses it or [`Node::limit_key`] names it;
    /// its stored bytes are never forgotten.
    pub fn forget_keys(&self, is_gone: impl Fn(&str) -> bool) {
        self.shared.context.usage.forget(is_gone);
    }

    /// Counters since the start, and the present state of the node. Costs a walk over the peers and
    /// some calls to storage.
    pub async fn stats(&self) -> Result<Stats, NodeError> {
        let mut stats = self.ask(Command::Stats).await?;
        stats.stored = self.shared.storage.stats().await.ok();
        if !stats.upstreams.is_empty() {
            // A storage that cannot tell is told of by its other numbers.
            let _ = self.count_unsynced(&mut stats).await;
        }
        Ok(stats)
    }

    /// Whether the node can do its work: checks storage, and lists the upstreams.
    pub async fn ready(&self) -> Result<Readiness, NodeError> {
        let upstreams = self.ask(Command::Upstreams).await?;
        let storage = ready::ask(&*self.shared.storage, &self.shared.context.counters).await;
        Ok(Readiness { storage, upstreams })
    }

    /// Waits until the node has stopped because of a bug: it serves nothing from then on, and the
    /// log has the panic.
    pub async fn failed(&self) {
        self.shared.commands.closed().await;
    }

    /// Stops reading, waits until all accepted content is durable and acknowledged, closes all
    /// connections, and closes the storage.
    pub async fn shutdown(mut self) -> Result<(), NodeError> {
        let _ = self.shared.stage.send(Stage::Draining);
        let (done, drained) = oneshot::channel();
        let _ = self.shared.commands.send(Command::Drain(self.drain_time, done)).await;
        let stored = tokio::time::timeout(self.drain_time, drained).await;
        let stored = stored.ok().and_then(Result::ok);
        let drained = stored.is_some();
        let _ = self.shared.stage.send(Stage::Closing);
        // The time for telling peers is a part of it: those that have not read by now hardly will.
        let close_by = stored.unwrap_or_else(Instant::now) + CLOSE_TIME;
        // Each connection holds a receiver, so the channel closes when the last one has gone.
        if tokio::time::timeout_at(close_by.into(), self.shared.all_closed()).await.is_err() {
            warn!("some connections did not end in time");
        }
        // With the engine, the verifiers' work ends.
        self.tasks.shutdown().await;
        let verifiers = self.verifiers;
        let joined = tokio::task::spawn_blocking(|| {
            for verifier in verifiers {
                // One that panicked has said so.
                let _ = verifier.join();
            }
        });
        let _ = joined.await;
        self.shared.context.usage.save().await;
        self.shared.storage.close().await.map_err(NodeError::Close)?;
        if drained { Ok(()) } else { Err(NodeError::NotDrained(self.drain_time)) }
    }

    pub(crate) fn new(
        shared: Arc<Shared>,
        tasks: JoinSet<()>,
        verifiers: Vec<std::thread::JoinHandle<()>>,
        drain_time: Duration,
    ) -> Self {
        Self { shared, tasks, verifiers, drain_time }
    }

    /// Asks the engine.
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, NodeError> {
        let (done, answer) = oneshot::channel();
        let asked = self.shared.commands.send(command(done)).await;
        asked.map_err(|_| NodeError::ShutDown)?;
        answer.await.map_err(|_| NodeError::ShutDown)
    }

    async fn count_unsynced(&self, stats: &mut Stats) -> Result<(), StorageError> {
        let (mut after, mut counted) = (None, 0);
        while counted < MAX_UNSYNCED_COUNTED {
            let page = self.shared.storage.unsynced(after, UNSYNCED_PAGE).await?;
            for entry in &page {
                let upstream =
                    stats.upstreams.iter_mut().find(|state| state.name == entry.upstream);
                if let Some(upstream) = upstream {
                    upstream.unsynced += 1;
                }
            }
            counted += page.len() as u64;
            if page.len() < UNSYNCED_PAGE {
                break;
            }
            after = page.into_iter().last();
        }
        Ok(())
    }
}
