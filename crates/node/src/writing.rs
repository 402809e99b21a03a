//! Writing to a peer: turns in, messages and signs of life out.

use std::time::Instant;

use downbeat_driver::{Turn, TurnLimits};
use downbeat_protocol::Message;
use downbeat_sync::{Event, Item, Progress};
use downbeat_transport::{Sender, TransportError};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tracing::debug;

use crate::connection::{Link, Surroundings};
use crate::failure::{RETRY, reading_failed};
use crate::stats::add;

/// Writes turns, and the answers of the reading half, until the node gives nothing more. An error is a peer that takes nothing more.
pub(crate) async fn write(
    link: &Link,
    sender: &mut dyn Sender,
    mut turns: mpsc::Receiver<Vec<Item>>,
    mut answers: mpsc::Receiver<Message>,
    around: &Surroundings,
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
                around.counters.sent(&messages, bytes);
            }
            turn = turns.recv() => {
                let Some(items) = turn else { return Ok(()) };
                let done = turn_written(link, sender, items, around).await?;
                if around.events.send(done).await.is_err() {
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
    around: &Surroundings,
) -> Result<Event, TransportError> {
    let started = Instant::now();
    // Boxed, because the largest state by far belongs to what an idle connection does not do; it
    // would be a part of every connection's task. It is small enough (1,032 bytes with glibc) for
    // the allocator to have one at hand.
    let progress = Box::pin(write_turn(sender, around, items)).await?;
    debug!(peer = %link.info.address, took = ?started.elapsed(), "turn written");
    Ok(Event::TurnDone { peer: link.peer, progress })
}

/// Writes a turn to a peer. Returns how far the content got that was not sent whole.
async fn write_turn(
    sender: &mut dyn Sender,
    around: &Surroundings,
    items: Vec<Item>,
) -> Result<Vec<Progress>, TransportError> {
    let mut turn = Turn::new(items, TurnLimits::default());
    while let Some(messages) = turn.next(&around.content).await {
        let bytes = sender.send(messages).await?;
        around.counters.sent(messages, bytes);
    }
    let report = turn.finish();
    for (id, error) in &report.failures {
        reading_failed("content could not be read", Some(*id), error, &around.counters);
    }
    if report.is_interrupted {
        add(&around.counters.storage.read_retries, 1);
        // The machine gives the rest again at once, and storage still fails.
        tokio::time::sleep(RETRY).await;
    }
    Ok(report.progress)
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
