//! Building a node.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use downbeat_driver::ContentStore;
use downbeat_storage::Storage;
use downbeat_sync::{Config, Event, Machine, UpstreamName};
use downbeat_transport::{Connector, Listener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::access::Access;
use crate::addresses::Addresses;
use crate::catch_panics::CatchPanics;
use crate::context::NodeContext;
use crate::credit::CreditPool;
use crate::engine::{Engine, Parts};
use crate::erasing;
use crate::error::{NodeError, upstream_name};
use crate::into::{IntoConnector, IntoListener, IntoStorage};
use crate::limits::NodeLimits;
use crate::listening::accept;
use crate::node::Node;
use crate::output::Output;
use crate::policy::ContentPolicy;
use crate::shared::Shared;
use crate::stage::Stage;
use crate::stats::Counters;
use crate::storage_watch;
use crate::upstream;
use crate::usage::Usage;
use crate::verifier::Verifier;
use crate::writer::{self, WriteQueue};

/// Events that may wait for the machine. Connection tasks find room most of the time; if the queue
/// is full, the tasks wait, and so do their peers.
const EVENT_QUEUE: usize = 4096;

/// Commands that may wait for the engine; each caller waits for its answer, so they are few.
const COMMAND_QUEUE: usize = 16;

/// Default of [`NodeBuilder::drain_time`].
const DEFAULT_DRAIN_TIME: Duration = Duration::from_secs(20);

/// Default of [`NodeBuilder::content_cache`].
const DEFAULT_CONTENT_CACHE: u64 = 64 << 20;

/// Builds a node; from [`Node::builder`].
pub struct NodeBuilder {
    storage: Arc<dyn Storage>,
    listeners: Vec<Box<dyn Listener>>,
    upstreams: Vec<Arc<dyn Connector>>,
    sync: Config,
    limits: NodeLimits,
    access: Access,
    usage_file: Option<PathBuf>,
    content_cache: u64,
    verifier_threads: usize,
    drain_time: Duration,
}

impl Node {
    /// Begins to build a node over a storage, with defaults for everything else. Takes a
    /// [`Storage`], or one in an `Arc` or a `Box`.
    pub fn builder<M>(storage: impl IntoStorage<M>) -> NodeBuilder {
        NodeBuilder::new(storage.into_storage())
    }
}

impl NodeBuilder {
    fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            listeners: Vec::new(),
            upstreams: Vec::new(),
            sync: Config::default(),
            limits: NodeLimits::default(),
            access: Access::Open,
            usage_file: None,
            content_cache: DEFAULT_CONTENT_CACHE,
            verifier_threads: std::thread::available_parallelism().map_or(1, usize::from),
            drain_time: DEFAULT_DRAIN_TIME,
        }
    }

    /// Accepts peers from a [`Listener`], boxed or not. Can be called several times.
    #[must_use]
    pub fn listen<M>(mut self, listener: impl IntoListener<M>) -> Self {
        self.listeners.push(listener.into_listener());
        self
    }

    /// Syncs with the upstream server that a [`Connector`] reaches, which may be in an `Arc` or a
    /// `Box`. The node reconnects whenever the connection ends. Can be called several times.
    #[must_use]
    pub fn upstream<M>(mut self, connector: impl IntoConnector<M>) -> Self {
        self.upstreams.push(connector.into_connector());
        self
    }

    /// Bounds on what peers may do.
    #[must_use]
    pub fn limits(mut self, limits: NodeLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The accounts whose content is stored.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Path of the file that keeps the stored bytes of each access key and account, so that quotas
    /// hold across restarts. The node creates it when there is something to keep, and writes it at
    /// most every ten seconds and at the end. Without a file, counting begins at 0 with every
    /// start.
    #[must_use]
    pub fn usage_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.usage_file = Some(path.into());
        self
    }

    /// Bounds of the sync machine. The subscriptions of a peer are bounded by whichever is less,
    /// this or [`NodeLimits::subscriptions`].
    #[must_use]
    pub fn sync_config(mut self, config: Config) -> Self {
        self.sync = config;
        self
    }

    /// Bytes of durable content that stay in memory for the next readers; 64 MiB by default.
    #[must_use]
    pub fn content_cache(mut self, bytes: u64) -> Self {
        self.content_cache = bytes;
        self
    }

    /// The number of threads that verify signatures; one for each processor if this is not called.
    #[must_use]
    pub fn verifier_threads(mut self, threads: NonZeroUsize) -> Self {
        self.verifier_threads = threads.get();
        self
    }

    /// How long [`Node::shutdown`] waits until what was taken in is stored and its senders have
    /// been told; 20 s if this is not called. Saying goodbye takes up to 3 s more, and closing the
    /// storage what it takes.
    #[must_use]
    pub fn drain_time(mut self, time: Duration) -> Self {
        self.drain_time = time;
        self
    }

    /// Starts the node on the current tokio runtime.
    pub fn start(self) -> Result<Node, NodeError> {
        let Self { listeners, upstreams, limits, drain_time, .. } = self;
        let storage: Arc<dyn Storage> = Arc::new(CatchPanics(self.storage));
        let (events, incoming) = mpsc::channel(EVENT_QUEUE);
        let (commands, orders) = mpsc::channel(COMMAND_QUEUE);
        let (stage, stages) = watch::channel(Stage::Running);
        let counters = Arc::new(Counters::default());
        let usage = Usage::open(self.access.clone(), limits.key, self.usage_file);
        let usage = Arc::new(usage.map_err(NodeError::Usage)?);
        let content = ContentStore::new(Arc::clone(&storage), self.content_cache);
        let policy = Arc::new(ContentPolicy::new(
            self.access,
            content.clone(),
            Arc::clone(&usage),
            Arc::clone(&counters),
            limits.credit_bytes,
        ));
        let credit = Arc::new(CreditPool::new(limits.credit_bytes));
        let output =
            Arc::new(Output::new(limits.output_bytes, limits.stall, Arc::clone(&counters)));
        let mut sync = self.sync;
        sync.subscriptions_per_peer = sync.subscriptions_per_peer.min(limits.subscriptions);
        let mut machine = Machine::new(sync);
        let names = names_of(&upstreams)?;
        for name in &names {
            machine.add_upstream(name.clone());
        }
        let (verifier, threads) =
            Verifier::start(self.verifier_threads, &content, &events, &counters)
                .map_err(NodeError::Threads)?;
        let writer = WriteQueue::new();
        let mut tasks = storage_tasks(&writer, &content, &events, &counters);
        let finished = Arc::default();
        let engine = Engine::new(Parts {
            machine,
            upstreams: names.clone(),
            content: content.clone(),
            verifier,
            writer,
            events: events.clone(),
            finished: Arc::clone(&finished),
            counters: Arc::clone(&counters),
            usage: Arc::clone(&usage),
            policy: Arc::clone(&policy),
            credit: Arc::clone(&credit),
            output: Arc::clone(&output),
        });
        tasks.spawn(engine.run(orders, incoming));
        tasks.spawn(Arc::clone(&usage).keep_saving());
        let shared = Arc::new(Shared {
            storage,
            commands,
            context: NodeContext {
                events,
                finished,
                content,
                stage: stages,
                counters,
                usage,
                policy,
                limits,
                addresses: Arc::new(Addresses::new(limits.address)),
                credit,
                output,
            },
            stage,
            next_peer: AtomicU64::new(0),
        });
        for listener in listeners {
            tasks.spawn(accept(listener, Arc::clone(&shared)));
        }
        for (upstream, name) in upstreams.into_iter().zip(names) {
            tasks.spawn(upstream::keep_connected(upstream, name, Arc::clone(&shared)));
        }
        Ok(Node::new(shared, tasks, threads, drain_time))
    }
}

/// The checked names of upstreams.
fn names_of(upstreams: &[Arc<dyn Connector>]) -> Result<Vec<UpstreamName>, NodeError> {
    upstreams.iter().map(|upstream| upstream_name(upstream.name())).collect()
}

/// Starts the tasks that write to storage, erase from it and check it.
fn storage_tasks(
    writer: &WriteQueue,
    content: &ContentStore,
    events: &mpsc::Sender<Event>,
    counters: &Arc<Counters>,
) -> JoinSet<()> {
    let (storage, deleted) = (content.storage(), writer.deleted());
    let mut tasks = JoinSet::new();
    let counters = || Arc::clone(counters);
    tasks.spawn(writer::run(writer.clone(), content.clone(), events.clone(), counters()));
    tasks.spawn(erasing::run(Arc::clone(storage), Arc::clone(deleted), counters()));
    tasks.spawn(storage_watch::watch(Arc::clone(storage), writer.clone(), counters()));
    tasks
}
