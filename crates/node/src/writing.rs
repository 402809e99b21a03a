//! Writing to a peer: messages of turns, answers and keep-alives.

use std::time::Instant;

use downbeat_driver::{Turn, TurnLimits};
use downbeat_protocol::Message;
use downbeat_sync::{Event, Item, Progress};
use downbeat_transport::{Sender, TransportError};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tracing::debug;

use crate::context::NodeContext;
use crate::failure::{RETRY, reading_failed};
use crate::link::Link;
use crate::stats::add;

/// Writes turns and the answers of the reading half, until the node has no more turns. Fails if the
/// peer takes nothing more.
pub(crate) async fn write(
    link: &Link,
    sender: &mut dyn Sender,
    mut turns: mpsc::Receiver<Vec<Item>>,
    mut answers: mpsc::Receiver<Message>,
    node: &NodeContext,
) -> Result<(), TransportError> {
    let mut keep_alive = KeepAlive::new(sender);
    loop {
        tokio::select! {
            biased;
            () = keep_alive.due() => sender.keep_alive().await?,
            // Never closed before the end: the reading half is dropped together with this one.
            Some(answer) = answers.recv() => {
                let messages = [answer];
                let bytes = sender.send(&messages).await?;
                node.counters.sent(&messages, bytes);
            }
            turn = turns.recv() => {
                let Some(items) = turn else { return Ok(()) };
                let done = turn_written(link, sender, items, node).await?;
                if node.events.send(done).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

async fn turn_written(
    link: &Link,
    sender: &mut dyn Sender,
    items: Vec<Item>,
    node: &NodeContext,
) -> Result<Event, TransportError> {
    let started = Instant::now();
    // Boxed, because its state is the largest by far, and would be a part of every idle
    // connection's task. It is small enough (1,032 bytes with glibc) for the allocator's cache.
    let progress = Box::pin(write_turn(sender, node, items)).await?;
    debug!(peer = %link.info.address, took = ?started.elapsed(), "turn written");
    Ok(Event::TurnDone { peer: link.peer, progress })
}

/// Writes a turn to a peer. Returns how far the content got that was not sent whole.
async fn write_turn(
    sender: &mut dyn Sender,
    node: &NodeContext,
    items: Vec<Item>,
) -> Result<Vec<Progress>, TransportError> {
    let mut turn = Turn::new(items, TurnLimits::default());
    while let Some(messages) = turn.next(&node.content).await {
        let bytes = sender.send(messages).await?;
        node.counters.sent(messages, bytes);
    }
    let report = turn.finish();
    for (id, error) in &report.failures {
        reading_failed("content could not be read", Some(*id), error, &node.counters);
    }
    if report.is_interrupted {
        add(&node.counters.storage.read_retries, 1);
        // The machine gives the rest again at once, and storage still fails.
        tokio::time::sleep(RETRY).await;
    }
    Ok(report.progress)
}

/// When the next keep-alive is due.
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
