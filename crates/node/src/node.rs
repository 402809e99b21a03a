//! Putting a node together, and the handle to a running one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use downbeat_storage::{Storage, StorageError};
use downbeat_sync::{Config, Machine, PeerId, Rejection, Role};
use downbeat_transport::{Connection, Connector, Listener};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};

use crate::connection::{self, Stage, Surroundings, reached};
use crate::content::ContentStore;
use crate::engine::{Command, Engine};
use crate::local::Local;
use crate::stats::{Counters, Stats};
use crate::upstream;
use crate::verifier::Verifier;
use crate::writer::{self, WriteQueue};

/// Events that may wait for the machine. Enough for every connection task to find room most of
/// the time; a full queue makes the tasks wait, and with them their peers.
const EVENT_QUEUE: usize = 4096;

/// Commands that may wait for the engine; each caller waits for its answer, so they are few.
const COMMAND_QUEUE: usize = 16;

/// How long a shutdown waits for what was taken in to be stored and acknowledged.
const DRAIN_TIME: Duration = Duration::from_secs(20);

/// How long a shutdown waits for connections to say goodbye.
const CLOSE_TIME: Duration = Duration::from_secs(3);

/// Bytes of durable content that are kept in memory for the next reader, where nothing else was
/// asked for.
const DEFAULT_CONTENT_CACHE: u64 = 64 << 20;

/// Puts a node together.
pub struct NodeBuilder {
    storage: Arc<dyn Storage>,
    listeners: Vec<Box<dyn Listener>>,
    upstreams: Vec<Arc<dyn Connector>>,
    sync: Config,
    content_cache: u64,
    verifier_threads: usize,
}

/// A running node. Dropping it ends the node without finishing what it has taken in; see
/// [`Node::shutdown`].
pub struct Node {
    shared: Arc<Shared>,
    /// The node's tasks; they are aborted when the node is dropped.
    tasks: JoinSet<()>,
}

pub(crate) struct Shared {
    storage: Arc<dyn Storage>,
    pub(crate) commands: mpsc::Sender<Command>,
    around: Surroundings,
    pub(crate) stage: watch::Sender<Stage>,
    next_peer: AtomicU64,
}

/// Why a node could not be started or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Threads could not be started.
    #[error("the verifier threads could not be started")]
    Threads(#[source] std::io::Error),
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
        NodeBuilder {
            storage,
            listeners: Vec::new(),
            upstreams: Vec::new(),
            sync: Config::default(),
            content_cache: DEFAULT_CONTENT_CACHE,
            verifier_threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Serves a peer over a connection, until the connection ends.
    pub async fn connect(&self, connection: Connection) -> Result<(), NodeError> {
        self.shared.serve(connection, Role::Client, None).await.map(|_| ())
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
        self.shared.serve(connection, Role::Upstream(name.into()), None).await.map(|_| ())
    }

    /// Reading and writing CoValues in this program itself.
    pub fn local(&self) -> Local {
        Local::new(Arc::downgrade(&self.shared))
    }

    /// What the node has done since it was started, and how it is now. Costs a walk over the
    /// peers.
    pub async fn stats(&self) -> Result<Stats, NodeError> {
        let (done, stats) = oneshot::channel();
        let asked = self.shared.commands.send(Command::Stats(done)).await;
        asked.map_err(|_| NodeError::ShutDown)?;
        stats.await.map_err(|_| NodeError::ShutDown)
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
        let _ = self.shared.commands.send(Command::Drain(done)).await;
        let drained = matches!(tokio::time::timeout(DRAIN_TIME, drained).await, Ok(Ok(())));
        let _ = self.shared.stage.send(Stage::Closing);
        // Each connection holds a receiver, so the channel closes when the last one has gone.
        if tokio::time::timeout(CLOSE_TIME, self.shared.all_closed()).await.is_err() {
            warn!("some connections did not end in time");
        }
        self.tasks.shutdown().await;
        self.shared.storage.close().await.map_err(NodeError::Close)?;
        if drained { Ok(()) } else { Err(NodeError::NotDrained(DRAIN_TIME)) }
    }
}

impl NodeBuilder {
    /// Accepts peers from a listener. Can be called several times.
    #[must_use]
    pub fn listen(mut self, listener: Box<dyn Listener>) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Syncs with an upstream server, which is connected to again whenever the connection ends.
    /// Can be called several times.
    #[must_use]
    pub fn upstream(mut self, connector: Arc<dyn Connector>) -> Self {
        self.upstreams.push(connector);
        self
    }

    /// Bounds of the sync machine.
    #[must_use]
    pub fn sync_config(mut self, config: Config) -> Self {
        self.sync = config;
        self
    }

    /// Bytes of durable content kept in memory for those who read it next.
    #[must_use]
    pub fn content_cache(mut self, bytes: u64) -> Self {
        self.content_cache = bytes;
        self
    }

    /// Starts the node on the current tokio runtime.
    pub fn start(self) -> Result<Node, NodeError> {
        let Self { storage, listeners, upstreams, sync, content_cache, verifier_threads } = self;
        let (events, incoming) = mpsc::channel(EVENT_QUEUE);
        let (commands, orders) = mpsc::channel(COMMAND_QUEUE);
        let (stage, stages) = watch::channel(Stage::Running);
        let counters = Arc::new(Counters::default());
        let content = ContentStore::new(Arc::clone(&storage), content_cache);
        let verifier = Verifier::start(verifier_threads, &content, &events, &counters)
            .map_err(NodeError::Threads)?;
        let queue = WriteQueue::default();
        let mut machine = Machine::new(sync);
        for upstream in &upstreams {
            check_name(upstream.name())?;
            machine.add_upstream(upstream.name().into());
        }
        let engine = Engine::new(
            machine,
            content.clone(),
            verifier,
            queue.clone(),
            events.clone(),
            Arc::clone(&counters),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(writer::run(queue, content.clone(), events.clone(), Arc::clone(&counters)));
        tasks.spawn(engine.run(orders, incoming));
        let around = Surroundings { events, content, stage: stages, counters };
        let shared =
            Arc::new(Shared { storage, commands, around, stage, next_peer: AtomicU64::new(0) });
        for listener in listeners {
            tasks.spawn(accept(listener, Arc::clone(&shared)));
        }
        for upstream in upstreams {
            tasks.spawn(upstream::keep_connected(upstream, Arc::clone(&shared)));
        }
        Ok(Node { shared, tasks })
    }
}

impl Shared {
    /// Tells the engine of a connection and starts its tasks, which end with the connection.
    pub(crate) async fn serve(
        &self,
        connection: Connection,
        role: Role,
        refused: Option<watch::Sender<Option<Rejection>>>,
    ) -> Result<JoinHandle<()>, NodeError> {
        let peer = PeerId(self.next_peer.fetch_add(1, Ordering::Relaxed));
        let (mut link, starter) = connection::open(connection, peer, self.around.clone());
        link.refused = refused;
        let (done, connected) = oneshot::channel();
        self.commands
            .send(Command::Connect(peer, role, link, done))
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

fn check_name(name: &str) -> Result<(), NodeError> {
    match downbeat_storage::UpstreamName::new(name) {
        Ok(_) => Ok(()),
        Err(source) => Err(NodeError::UpstreamName { name: name.to_owned(), source }),
    }
}

/// Takes connections until the listener fails or the node shuts down.
async fn accept(mut listener: Box<dyn Listener>, shared: Arc<Shared>) {
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
                if shared.serve(connection, Role::Client, None).await.is_err() {
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
