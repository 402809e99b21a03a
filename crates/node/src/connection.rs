//! One peer's connection: a task that reads and a task that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use downbeat_protocol::Message;
use downbeat_sync::{Event, Item, PeerId, Rejection, content_credit};
use downbeat_transport::{
    CloseCode, CloseReason, Connection, PeerInfo, Receiver, Sender, TransportError,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior};
use tracing::{debug, info, warn};

use crate::content::ContentStore;
use crate::stats::{Counters, add};
use crate::turn::write_turn;

/// Bytes of transactions that a peer may have in the machine's care before its connection is read
/// no further. Several times what one group commit takes from one fast client, so that it does
/// not wait for the disk; and what one client can cost in memory.
pub(crate) const PEER_CREDIT: i64 = 8 << 20;

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
    async fn take(&self, bytes: u64) {
        while bytes > 0 && self.left.load(Ordering::Acquire) <= 0 {
            self.changed.notified().await;
        }
        self.left.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::AcqRel);
    }
}

/// What the engine keeps of a connection.
pub(crate) struct Link {
    pub info: PeerInfo,
    pub credit: Arc<Credit>,
    /// One turn at a time: the machine waits for a turn to be done before it gives the next.
    pub turns: mpsc::Sender<Vec<Item>>,
    /// Whether a turn is with the writing task.
    pub busy: bool,
    /// Whether the peer is an upstream.
    pub is_upstream: bool,
    /// Where this program itself is the peer: tells it why its content was refused.
    pub refused: Option<watch::Sender<Option<Rejection>>>,
}

/// What a connection needs of the node.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub events: mpsc::Sender<Event>,
    pub content: ContentStore,
    pub stage: watch::Receiver<Stage>,
    pub counters: Arc<Counters>,
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

/// Prepares a connection. The engine has to know the link before the tasks report their first
/// event, so they are started by the caller.
pub(crate) fn open(connection: Connection, peer: PeerId, around: Surroundings) -> (Link, Starter) {
    let Connection { info, sender, receiver } = connection;
    let (turns, incoming_turns) = mpsc::channel(1);
    let credit = Arc::new(Credit::new());
    let link = Link {
        info: info.clone(),
        credit: Arc::clone(&credit),
        turns,
        busy: false,
        is_upstream: false,
        refused: None,
    };
    let starter = Starter { peer, info, sender, receiver, credit, turns: incoming_turns, around };
    (link, starter)
}

/// A connection whose tasks have not been started.
pub(crate) struct Starter {
    peer: PeerId,
    info: PeerInfo,
    sender: Box<dyn Sender>,
    receiver: Box<dyn Receiver>,
    credit: Arc<Credit>,
    turns: mpsc::Receiver<Vec<Item>>,
    around: Surroundings,
}

impl Starter {
    /// Runs both tasks until the connection ends, and reports the end.
    pub(crate) async fn run(self) {
        let Self { peer, info, sender, receiver, credit, turns, around } = self;
        let events = around.events.clone();
        let reader = read(peer, &info, receiver, &credit, &around);
        let writer = write(peer, &info, sender, turns, around.clone());
        tokio::pin!(reader);
        let writer_broke = tokio::select! {
            () = &mut reader => false,
            ended = writer => matches!(ended, Ended::Broken),
        };
        if writer_broke {
            // A peer that has gone may have sent something before.
            let _ = tokio::time::timeout(LEFTOVER_TIME, reader).await;
        }
        info!(peer = %info.address, "disconnected");
        let _ = events.send(Event::Disconnected(peer)).await;
    }
}

async fn read(
    peer: PeerId,
    info: &PeerInfo,
    mut receiver: Box<dyn Receiver>,
    credit: &Credit,
    around: &Surroundings,
) {
    let mut stage = around.stage.clone();
    loop {
        let incoming = tokio::select! {
            incoming = receiver.receive() => incoming,
            () = reached(&mut stage, Stage::Draining) => {
                // The writer finishes what is under way, and ends the connection.
                return std::future::pending().await;
            }
        };
        let incoming = match incoming {
            Ok(Some(incoming)) => incoming,
            // A frame that was too large came as a rejection before.
            Ok(None) | Err(TransportError::FrameTooLarge { .. }) => return,
            Err(error) => {
                warn!(peer = %info.address, %error, "the connection broke");
                return;
            }
        };
        add(&around.counters.traffic.frames_received, incoming.bytes as u64);
        for rejection in incoming.rejected {
            add(&around.counters.rejections.undecodable, 1);
            warn!(peer = %info.address, %rejection, "dropped what the peer sent");
        }
        for message in incoming.messages {
            around.counters.received(&message);
            if let Message::Content(content) = &message {
                credit.take(content_credit(content)).await;
            }
            if around.events.send(Event::Received { peer, message }).await.is_err() {
                return;
            }
        }
    }
}

async fn write(
    peer: PeerId,
    info: &PeerInfo,
    mut sender: Box<dyn Sender>,
    mut turns: mpsc::Receiver<Vec<Item>>,
    mut around: Surroundings,
) -> Ended {
    let mut keep_alive = KeepAlive::new(&*sender);
    let mut stage = around.stage.clone();
    loop {
        let result = tokio::select! {
            biased;
            () = keep_alive.due() => tokio::select! {
                sent = sender.keep_alive() => sent,
                () = reached(&mut stage, Stage::Closing) => continue,
            },
            turn = turns.recv() => {
                let Some(items) = turn else { return Ended::Served };
                let started = Instant::now();
                let written = tokio::select! {
                    written = write_turn(&mut *sender, &around, items) => written,
                    // A peer that takes nothing is not waited for.
                    () = reached(&mut stage, Stage::Closing) => continue,
                };
                match written {
                    Ok(progress) => {
                        debug!(peer = %info.address, took = ?started.elapsed(), "turn written");
                        let done = Event::TurnDone { peer, progress };
                        if around.events.send(done).await.is_err() {
                            return Ended::Served;
                        }
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            () = reached(&mut around.stage, Stage::Closing) => {
                let reason = CloseReason::new(CloseCode::GoingAway, "the server is shutting down");
                if let Err(error) = sender.close(reason).await {
                    debug!(peer = %info.address, %error, "closing");
                }
                return Ended::Served;
            }
        };
        if let Err(error) = result {
            debug!(peer = %info.address, %error, "the connection broke while writing");
            return Ended::Broken;
        }
    }
}

/// Why nothing more is written to a connection.
enum Ended {
    /// The node wants it so.
    Served,
    /// The peer takes nothing more.
    Broken,
}

/// When the next sign of life is due.
struct KeepAlive(Option<Interval>);

impl KeepAlive {
    fn new(sender: &dyn Sender) -> Self {
        Self(sender.keep_alive_interval().map(|period| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        }))
    }

    async fn due(&mut self) {
        match &mut self.0 {
            Some(interval) => {
                interval.tick().await;
            }
            None => std::future::pending().await,
        }
    }
}
