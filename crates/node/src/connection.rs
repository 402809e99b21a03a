//! One peer's connection: a task that reads, writes, and waits for the end.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use downbeat_driver::ContentStore;
use downbeat_sync::{Event, Item, PeerId, Rejection, Role, UpstreamName};
use downbeat_transport::{
    CloseCode, CloseReason, Connection, PeerInfo, Receiver, Sender, TransportError,
};
use tokio::sync::{Notify, mpsc, watch};
use tracing::debug;

use crate::apart::Apart;
use crate::ending::Cause;
use crate::gate::{Gate, Proof};
use crate::limits::Limits;
use crate::reading;
use crate::stats::{BackPressureCells, Counters, add, micros};
use crate::usage::{Key, Usage};
use crate::writing;

/// Bytes of transactions that a peer may have in the machine's care before its connection is read
/// no further. Several times what one group commit takes from one fast client, so that it does
/// not wait for the disk; and what one client can cost in memory.
pub(crate) const PEER_CREDIT: i64 = 8 << 20;

/// Answers from the reading half to the writing half of a connection that wait while a turn is
/// written. Beyond that nothing is read, so that they cannot gather in memory.
const ANSWERS_WAITING: usize = 16;

/// How long a connection that takes nothing more is read for what the peer had sent before. Most
/// have it in their buffers, and are through at once.
const LEFTOVER_TIME: Duration = Duration::from_secs(5);

/// What a peer may still send.
pub(crate) struct Credit {
    left: AtomicI64,
    changed: Notify,
}

impl Credit {
    fn new() -> Self {
        Self { left: AtomicI64::new(PEER_CREDIT), changed: Notify::new() }
    }

    /// Gives credit back.
    pub(crate) fn release(&self, bytes: u64) {
        self.left.fetch_add(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::AcqRel);
        self.changed.notify_one();
    }

    /// Takes credit, when there is any: the last message may be larger than what is left.
    pub(crate) async fn take(&self, bytes: u64, waits: &BackPressureCells) {
        if bytes > 0 && self.left.load(Ordering::Acquire) <= 0 {
            let began = Instant::now();
            while self.left.load(Ordering::Acquire) <= 0 {
                self.changed.notified().await;
            }
            add(&waits.credit_waits, 1);
            add(&waits.credit_wait_micros, micros(began.elapsed()));
        }
        self.left.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::AcqRel);
    }
}

/// What a peer is to the node.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// It has connected to us.
    Client,
    /// A server of ours.
    Upstream(UpstreamName),
    /// This program itself, which is told here why its content was refused.
    Local(watch::Sender<Option<Rejection>>),
}

impl Kind {
    pub(crate) fn role(&self) -> Role {
        match self {
            Self::Upstream(name) => Role::Upstream(Arc::clone(name)),
            Self::Client | Self::Local(_) => Role::Client,
        }
    }
}

/// What both halves of a connection know, and the engine as well.
pub(crate) struct Link {
    pub peer: PeerId,
    pub info: PeerInfo,
    pub kind: Kind,
    /// The access key, where the peer is a client that came with one.
    pub key: Option<Arc<Key>>,
    pub credit: Credit,
    /// Where only some accounts may store content: whether one of them is behind the peer.
    pub proof: Proof,
    close: watch::Sender<Option<CloseReason>>,
}

impl Link {
    /// Ends the connection as soon as possible.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.close.send_if_modified(|close| {
            let is_first = close.is_none();
            close.get_or_insert(reason);
            is_first
        });
    }
}

/// What a connection needs of the node.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub events: mpsc::Sender<Event>,
    pub content: ContentStore,
    pub stage: watch::Receiver<Stage>,
    pub counters: Arc<Counters>,
    pub usage: Arc<Usage>,
    pub gate: Arc<Gate>,
    pub limits: Limits,
}

/// How far the node's shutdown has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// All is well.
    Running,
    /// Nothing more is taken in; what was taken in is finished.
    Draining,
    /// Connections are closed.
    Closing,
}

/// Waits until the node's shutdown has come this far; dropping the node counts as all the way.
pub(crate) async fn reached(stage: &mut watch::Receiver<Stage>, wanted: Stage) {
    let _ = stage.wait_for(|stage| *stage >= wanted).await;
}

/// When a connection is to end.
#[derive(Clone)]
pub(crate) struct End {
    stage: watch::Receiver<Stage>,
    close: watch::Receiver<Option<CloseReason>>,
}

impl End {
    /// Waits for the end, and tells why.
    pub(crate) async fn reached(&mut self) -> CloseReason {
        let going_away = || CloseReason::new(CloseCode::GoingAway, "the server is shutting down");
        tokio::select! {
            () = reached(&mut self.stage, Stage::Closing) => going_away(),
            close = self.close.wait_for(Option::is_some) => {
                close.ok().and_then(|close| close.clone()).unwrap_or_else(going_away)
            }
        }
    }
}

/// Prepares a connection. The engine has to know the link before the tasks report their first
/// event, so they are started by the caller.
pub(crate) fn open(
    connection: Connection,
    peer: PeerId,
    kind: Kind,
    around: Surroundings,
) -> (Arc<Link>, mpsc::Sender<Vec<Item>>, Starter) {
    let Connection { info, sender, receiver } = connection;
    // One turn at a time: the machine waits for a turn to be done before it gives the next.
    let (turns, incoming_turns) = mpsc::channel(1);
    let (close, closing) = watch::channel(None);
    let key = match (&kind, &info.label) {
        (Kind::Client, Some(label)) => Some(around.usage.key(label)),
        _ => None,
    };
    let link = Arc::new(Link {
        peer,
        info,
        kind,
        key,
        credit: Credit::new(),
        proof: Proof::default(),
        close,
    });
    let end = End { stage: around.stage.clone(), close: closing };
    let starter =
        Starter { link: Arc::clone(&link), sender, receiver, turns: incoming_turns, end, around };
    (link, turns, starter)
}

/// A connection whose tasks have not been started.
pub(crate) struct Starter {
    link: Arc<Link>,
    sender: Box<dyn Sender>,
    receiver: Box<dyn Receiver>,
    turns: mpsc::Receiver<Vec<Item>>,
    end: End,
    around: Surroundings,
}

impl Starter {
    /// Reads and writes until the connection ends, reports the end, and tells why it has come.
    pub(crate) async fn run(self) -> Cause {
        let Self { link, mut sender, receiver, turns, mut end, around } = self;
        let cause = {
            let (answer, answers) = mpsc::channel(ANSWERS_WAITING);
            let reader = pin!(reading::read(&link, receiver, &answer, &around));
            let mut reader = Apart::new(reader);
            let ended = {
                let writer = pin!(writing::write(&link, &mut *sender, turns, answers, &around));
                let mut writer = Apart::new(writer);
                let end = pin!(end.reached());
                tokio::select! {
                    // Whatever the peer does: one that takes nothing is not waited for.
                    biased;
                    reason = Apart::new(end) => Ended::Closed(reason),
                    cause = &mut reader => Ended::Over(cause),
                    written = &mut writer => match written {
                        Ok(()) => Ended::Over(Cause::ShutDown),
                        Err(error) => Ended::Broken(error),
                    },
                }
            };
            match ended {
                Ended::Over(cause) => cause,
                // A peer that has gone may have sent something before.
                Ended::Broken(error) => {
                    debug!(peer = %link.info.address, %error, "the connection broke while writing");
                    let leftover = tokio::time::timeout(LEFTOVER_TIME, reader).await;
                    leftover.unwrap_or_else(|_| Cause::from(&error))
                }
                Ended::Closed(reason) => {
                    tokio::select! {
                        _ = reader => {}
                        closed = sender.close(reason) => if let Err(error) = closed {
                            debug!(peer = %link.info.address, %error, "closing");
                        },
                    }
                    let shuts_down = *around.stage.borrow() >= Stage::Closing;
                    if shuts_down { Cause::ShutDown } else { Cause::Closed }
                }
            }
        };
        around.counters.disconnects.count(&link.kind, cause);
        debug!(peer = %link.info.address, %cause, "disconnected");
        let _ = around.events.send(Event::Disconnected(link.peer)).await;
        cause
    }
}

/// How a connection ends.
enum Ended {
    /// The peer has gone, or nobody is there to listen to it.
    Over(Cause),
    /// The peer takes nothing more.
    Broken(TransportError),
    /// The node ends it.
    Closed(CloseReason),
}
