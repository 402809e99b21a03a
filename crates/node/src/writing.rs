//! Writing to a peer: turns in, messages and signs of life out.

use std::time::Instant;

use downbeat_sync::{Event, Item};
use downbeat_transport::{CloseReason, Sender, TransportError};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tracing::debug;

use crate::connection::{End, Link, Surroundings};
use crate::turn::write_turn;

/// Why nothing more is written to a connection.
pub(crate) enum Ended {
    /// The node wants it so.
    Served,
    /// The peer takes nothing more.
    Broken,
}

/// Writes until the connection ends.
pub(crate) async fn write(
    link: &Link,
    mut sender: Box<dyn Sender>,
    mut turns: mpsc::Receiver<Vec<Item>>,
    mut end: End,
    around: &Surroundings,
) -> Ended {
    let mut keep_alive = KeepAlive::new(&*sender);
    loop {
        let result = tokio::select! {
            biased;
            reason = end.reached() => return close(link, sender, reason).await,
            () = keep_alive.due() => tokio::select! {
                sent = sender.keep_alive() => sent,
                reason = end.reached() => return close(link, sender, reason).await,
            },
            turn = turns.recv() => {
                let Some(items) = turn else { return Ended::Served };
                let written = tokio::select! {
                    written = turn_written(link, &mut *sender, items, around) => written,
                    // A peer that takes nothing is not waited for.
                    reason = end.reached() => return close(link, sender, reason).await,
                };
                match written {
                    Ok(done) => {
                        if around.events.send(done).await.is_err() {
                            return Ended::Served;
                        }
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
        };
        if let Err(error) = result {
            debug!(peer = %link.info.address, %error, "the connection broke while writing");
            return Ended::Broken;
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
    // would be a part of every connection's task.
    let progress = Box::pin(write_turn(sender, around, items)).await?;
    debug!(peer = %link.info.address, took = ?started.elapsed(), "turn written");
    Ok(Event::TurnDone { peer: link.peer, progress })
}

async fn close(link: &Link, mut sender: Box<dyn Sender>, reason: CloseReason) -> Ended {
    if let Err(error) = sender.close(reason).await {
        debug!(peer = %link.info.address, %error, "closing");
    }
    Ended::Served
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
