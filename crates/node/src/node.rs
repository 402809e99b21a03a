//! The handle to a running node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use downbeat_storage::{Storage, StorageError};
use downbeat_sync::PeerId;
use downbeat_transport::{CloseReason, Connection, Listener, PeerInfo};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};

use crate::builder::NodeBuilder;
use crate::connection::{self, Kind, Stage, Surroundings, reached};
use crate::ending::Cause;
use crate::engine::Command;
use crate::limits::KeyLimits;
use crate::local::Local;
use crate::ready::{self, Readiness};
use crate::stats::Stats;

/// How long a shutdown waits, once everything is stored, for peers to be told and for connections to
/// say goodbye.
const CLOSE_TIME: Duration = Duration::from_secs(3);

/// Entries of the list of what upstreams lack that are counted when somebody asks.
const MAX_UNSYNCED_COUNTED: u64 = 10_000;

/// How many of them are asked for at a time.
const UNSYNCED_PAGE: usize = 1_000;

/// A running node. Dropping it ends the node without finishing what it has taken in; see
/// [`Node::shutdown`].
pub struct Node {
    shared: Arc<Shared>,
    /// The node's tasks; they are aborted when the node is dropped.
    tasks: JoinSet<()>,
    verifiers: Vec<std::thread::JoinHandle<()>>,
    drain_time: Duration,
}

pub(crate) struct Shared {
    pub storage: Arc<dyn Storage>,
    pub commands: mpsc::Sender<Command>,
    pub around: Surroundings,
    pub stage: watch::Sender<Stage>,
    pub next_peer: AtomicU64,
}

/// Why a node could not be started or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Threads could not be started.
    #[error("the verifier threads could not be started")]
    Threads(#[source] std::io::Error),
    /// The counts of stored bytes could not be read from their file.
    #[error("the file with the stored bytes of keys and accounts cannot be read")]
    Usage(#[source] std::io::Error),
    /// Storage failed when it was to be closed.
    #[error("storage could not be closed in order")]
    Close(#[source] StorageError),
    /// What was taken in could not be made durable in time. None of it has been acknowledged.
    #[error("not everything that was taken in could be stored within {0:?}")]
    NotDrained(Duration),
    /// The node has been shut down.
    #[error("the node is shut down")]
    ShutDown,
    /// What an upstream lacks could not be noted under its name.
    #[error("{name:?} cannot be the name of an upstream")]
    UpstreamName {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: downbeat_storage::InvalidUpstreamName,
    },
}

impl Node {
    /// A node over a storage, with defaults for everything else.
    pub fn builder(storage: Arc<dyn Storage>) -> NodeBuilder {
        NodeBuilder::new(storage)
    }

    /// Serves a peer over a connection, until the connection ends.
    pub async fn connect(&self, connection: Connection) -> Result<(), NodeError> {
        self.shared.serve(connection, Kind::Client).await.map(|_| ())
    }

    /// Takes the peer at the other end of a connection for an upstream, until the connection ends.
    /// Its name stands for it in storage and in the choice among several, so it must be the same
    /// at every connection to the same server.
    pub async fn connect_upstream(
        &self,
        name: &str,
        connection: Connection,
    ) -> Result<(), NodeError> {
        check_name(name)?;
        self.shared.serve(connection, Kind::Upstream(name.into())).await.map(|_| ())
    }

    /// Reading and writing CoValues in this program itself.
    pub fn local(&self) -> Local {
        Local::new(Arc::downgrade(&self.shared))
    }

    /// Ends the connections of clients of which `is_meant` is true, with a reason. Returns how many
    /// there were. What they sent before is stored; upstreams, and the program's own CoValues, are
    /// not asked about.
    ///
    /// Whoever connects at the same time may be missed: end what lets them in first.
    pub async fn disconnect(
        &self,
        is_meant: impl Fn(&PeerInfo) -> bool + Send + 'static,
        reason: CloseReason,
    ) -> Result<usize, NodeError> {
        self.ask(|done| Command::Disconnect(Box::new(is_meant), reason, done)).await
    }

    /// Gives an access key limits of its own, or with `None` those of all keys
    /// ([`Limits::key`](crate::Limits::key)) again. They hold at once, for connections that there
    /// are as well.
    pub fn limit_key(&self, label: &str, limits: Option<KeyLimits>) {
        self.shared.around.usage.limit(&label.into(), limits);
    }

    /// Leaves the access keys for which `is_gone` is true out of [`Node::stats`], and takes back the
    /// limits of their own. A key is there again when a client comes with it or
    /// [`Node::limit_key`] names it; what was stored for it counts all the time.
    pub fn forget_keys(&self, is_gone: impl Fn(&str) -> bool) {
        self.shared.around.usage.forget(is_gone);
    }

    /// What the node has done since it was started, and how it is now. Costs a walk over the
    /// peers, and some questions to storage.
    pub async fn stats(&self) -> Result<Stats, NodeError> {
        let mut stats = self.ask(Command::Stats).await?;
        stats.stored = self.shared.storage.stats().await.ok();
        if !stats.upstreams.is_empty() {
            // A storage that cannot tell is told of by its other numbers.
            let _ = self.count_unsynced(&mut stats).await;
        }
        Ok(stats)
    }

    /// Whether the node can do its work: asks storage, and tells which upstreams are connected.
    pub async fn ready(&self) -> Result<Readiness, NodeError> {
        let upstreams = self.ask(Command::Upstreams).await?;
        let storage = ready::ask(&*self.shared.storage, &self.shared.around.counters).await;
        Ok(Readiness { storage, upstreams })
    }

    /// Waits until the node has stopped by itself, which only a bug makes it do: nothing is served
    /// from then on, and the log tells of the panic.
    pub async fn failed(&self) {
        self.shared.commands.closed().await;
    }

    /// Takes nothing more in, waits until everything that was taken in is durable and
    /// acknowledged, says goodbye to all peers, and closes the storage.
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
        self.shared.around.usage.save().await;
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
                let name = entry.upstream.as_str();
                let upstream = stats.upstreams.iter_mut().find(|state| *state.name == *name);
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

impl Shared {
    /// Tells the engine of a connection and starts its tasks, which end with the connection.
    pub(crate) async fn serve(
        &self,
        connection: Connection,
        kind: Kind,
    ) -> Result<JoinHandle<Cause>, NodeError> {
        let peer = PeerId(self.next_peer.fetch_add(1, Ordering::Relaxed));
        let (link, turns, starter) = connection::open(connection, peer, kind, self.around.clone());
        let (done, connected) = oneshot::channel();
        self.commands
            .send(Command::Connect(link, turns, done))
            .await
            .map_err(|_| NodeError::ShutDown)?;
        connected.await.map_err(|_| NodeError::ShutDown)?;
        Ok(tokio::spawn(starter.run()))
    }

    async fn all_closed(&self) {
        // The handle itself and every listener hold one receiver; connections hold the others.
        while self.stage.receiver_count() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), NodeError> {
    match downbeat_storage::UpstreamName::new(name) {
        Ok(_) => Ok(()),
        Err(source) => Err(NodeError::UpstreamName { name: name.to_owned(), source }),
    }
}

/// Takes connections until the listener fails or the node shuts down.
pub(crate) async fn accept(mut listener: Box<dyn Listener>, shared: Arc<Shared>) {
    let mut stage = shared.stage.subscribe();
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = reached(&mut stage, Stage::Draining) => {
                info!(url = listener.url(), "no longer listening");
                return;
            }
        };
        match connection {
            Ok(connection) => {
                if shared.serve(connection, Kind::Client).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                warn!(url = listener.url(), %error, "the listener has failed");
                return;
            }
        }
    }
}
