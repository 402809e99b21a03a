//! Writing to a peer: messages of turns, answers and keep-alives.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
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
use crate::output::{Room, room_for};
use crate::poll_on_wake::PollOnWake;
use crate::stats::add;
use crate::turn_slot::Turns;

/// Writes turns and the answers of the reading half, until the node has no more turns. Fails if the
/// peer takes nothing more.
pub(crate) async fn write(
    link: &Arc<Link>,
    turns: Turns<'_>,
    sender: &mut dyn Sender,
    mut answers: mpsc::Receiver<Message>,
    node: &NodeContext,
) -> Result<(), TransportError> {
    let mut keep_alive = KeepAlive::new(sender);
    // Asked only when it was woken, which costs less than to find that there is nothing.
    let mut others = PollOnWake::new(poll_fn(|cx| poll_other(&mut keep_alive, &mut answers, cx)));
    // Room for content that there was none for in the turn before.
    let mut room = Room::default();
    loop {
        tokio::select! {
            biased;
            other = &mut others => write_other(other, sender, node).await?,
            turn = poll_fn(|cx| turns.poll_next(cx)) => {
                let Some(mut items) = turn else { return Ok(()) };
                let written = turn_written(link, sender, &mut items, &mut room, node);
                let Written { progress, wants_room } = written.await?;
                if wants_room > 0 {
                    // Boxed, because it is rare, and would be a part of every idle connection.
                    let mut taking = Box::pin(node.output.take(link, wants_room));
                    room = loop {
                        tokio::select! {
                            biased;
                            other = &mut others => write_other(other, sender, node).await?,
                            room = &mut taking => break room,
                        }
                    };
                }
                if progress.is_empty() && !turns.finish(link.peer, &node.finished) {
                    continue;
                }
                let done = Event::TurnDone { peer: link.peer, progress };
                if node.events.send(done).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// What is written between turns.
enum Other {
    KeepAlive,
    Answer(Message),
}

fn poll_other(
    keep_alive: &mut KeepAlive,
    answers: &mut mpsc::Receiver<Message>,
    cx: &mut Context<'_>,
) -> Poll<Other> {
    if keep_alive.poll_due(cx).is_ready() {
        return Poll::Ready(Other::KeepAlive);
    }
    match answers.poll_recv(cx) {
        Poll::Ready(Some(answer)) => Poll::Ready(Other::Answer(answer)),
        // Never closed before the end: the reading half is dropped together with this one.
        Poll::Ready(None) | Poll::Pending => Poll::Pending,
    }
}

async fn write_other(
    other: Other,
    sender: &mut dyn Sender,
    node: &NodeContext,
) -> Result<(), TransportError> {
    match other {
        Other::KeepAlive => sender.keep_alive().await,
        Other::Answer(answer) => {
            let messages = [answer];
            let bytes = sender.send(&messages).await?;
            node.counters.sent(&messages, bytes);
            Ok(())
        }
    }
}

/// What became of a turn.
struct Written {
    progress: Vec<Progress>,
    /// The room for content that has to wait, or 0.
    wants_room: u64,
}

async fn turn_written<'a>(
    link: &Arc<Link>,
    sender: &mut dyn Sender,
    items: &mut Vec<Item>,
    room: &mut Room<'a>,
    node: &'a NodeContext,
) -> Result<Written, TransportError> {
    let started = Instant::now();
    // Boxed, because its state is the largest by far, and would be a part of every idle
    // connection's task. It has about 1.2 KiB.
    let written = Box::pin(write_turn(link, sender, node, items, room)).await?;
    debug!(peer = %link.info.address, took = ?started.elapsed(), "turn written");
    Ok(written)
}

/// Writes a turn to a peer. Returns how far the content got that was not sent whole.
async fn write_turn<'a>(
    link: &Arc<Link>,
    sender: &mut dyn Sender,
    node: &'a NodeContext,
    items: &mut Vec<Item>,
    room: &mut Room<'a>,
) -> Result<Written, TransportError> {
    let mut turn = Turn::new(std::mem::take(items), TurnLimits::default());
    let mut wants_room = 0;
    while let Some(mut messages) = turn.next(&node.content).await {
        let bytes = room_for(link, messages);
        if node.output.try_take(room, link, bytes) {
            node.output.take_turns(link, bytes).await;
        } else {
            // The content waits in storage, and not here.
            messages = turn.put_back();
            wants_room = bytes;
            *room = Box::pin(node.output.take(link, room_for(link, messages))).await;
        }
        if !messages.is_empty() {
            let bytes = sender.send(messages).await?;
            node.counters.sent(messages, bytes);
        }
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
    room.give_back();
    Ok(Written { progress: report.progress, wants_room })
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

    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(interval) => interval.poll_tick(cx).map(|_| ()),
            None => Poll::Pending,
        }
    }
}
