//! Reading from a peer: frames in, within its limits, and events out.

use std::pin::pin;
use std::time::Duration;

use downbeat_protocol::{Content, Message, SessionContent, SessionId};
use downbeat_sync::{Event, Refusal, content_credit};
use downbeat_transport::{Blame, CloseCode, CloseReason, Incoming, Receiver, TransportError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::context::NodeContext;
use crate::ending::Cause;
use crate::limits::{Buckets, Patience, TooLong};
use crate::link::{Kind, Link};
use crate::policy::Verdict;
use crate::proof::Parked;
use crate::stage::{Stage, reached};
use crate::stats::{add, micros};

/// Reads until the connection ends, and tells why it has.
///
/// Messages that the machine has no part in are answered through `answers`.
pub(crate) async fn read(
    link: &Link,
    mut receiver: Box<dyn Receiver>,
    answers: &mpsc::Sender<Message>,
    node: &NodeContext,
) -> Cause {
    let mut stage = node.stage.clone();
    // Created once. A new one for each frame would cost more than everything else in this loop.
    let mut draining = pin!(reached(&mut stage, Stage::Draining));
    let mut throttle = Throttle::new(link, node);
    loop {
        let incoming = tokio::select! {
            biased;
            () = &mut draining => {
                // The writing half finishes what is under way, and ends the connection.
                return std::future::pending().await;
            }
            incoming = receiver.receive() => incoming,
        };
        let mut incoming = match incoming {
            Ok(Some(incoming)) => incoming,
            Ok(None) => return Cause::PeerClosed,
            Err(error) => {
                match error.blame() {
                    // A frame that was too large came as a rejection before.
                    Blame::Peer if matches!(error, TransportError::FrameTooLarge { .. }) => {}
                    // Clients vanish all the time.
                    Blame::Link => debug!(peer = %link.info.address, %error, "the peer went away"),
                    Blame::Peer | Blame::Caller => {
                        warn!(peer = %link.info.address, %error, "the connection broke");
                    }
                }
                return Cause::from(&error);
            }
        };
        add(&node.counters.traffic.frames_received, incoming.bytes as u64);
        if let Some(throttle) = &mut throttle {
            let wait = throttle.take(&incoming);
            if wait.is_last {
                // The connection ends after the wait, so the frame is dropped now.
                incoming = Incoming::default();
            }
            if !wait.is_none() {
                tokio::select! {
                    may_go_on = throttle.hold_back(wait) => if let Err(reason) = may_go_on {
                        link.close(reason);
                        return std::future::pending().await;
                    },
                    () = &mut draining => return std::future::pending().await,
                }
            }
        }
        // Telling of them is work as well, which is why they are held back like messages.
        for rejection in &incoming.rejected {
            node.counters.undecodable(&link.info, rejection);
        }
        for message in incoming.messages {
            if hand_on(link, message, answers, node).await.is_err() {
                return Cause::ShutDown;
            }
        }
    }
}

/// The engine is gone.
struct EngineGone;

async fn hand_on(
    link: &Link,
    message: Message,
    answers: &mpsc::Sender<Message>,
    node: &NodeContext,
) -> Result<(), EngineGone> {
    node.counters.received(&message);
    let peer = link.peer;
    match message {
        // Boxed, because its state is larger than all the rest of what reads, and would be a part
        // of every idle connection.
        Message::Content(content) => Box::pin(hand_on_content(link, content, node)).await,
        Message::Load(state) if node.policy.is_unwanted(link, state.id) => {
            // A client that has it would send it, whatever the answer.
            let refusal = if state.header { Refusal::Earlier } else { Refusal::Load };
            tell(node, Event::Refused { peer, id: state.id, refusal }).await
        }
        Message::Load(state) => {
            for refusal in node.policy.refusals(link, &state) {
                tell(node, Event::Refused { peer, id: state.id, refusal }).await?;
            }
            tell(node, Event::Received { peer, message: Message::Load(state) }).await
        }
        // The machine knows CoValues alone, and nothing that it does changes this answer. A peer
        // that does not take its answers is read no further.
        Message::Unknown(unknown) => {
            if let Some(answer) = unknown.answer() {
                // Where nothing is written any longer, the connection is about to end.
                let _ = answers.send(Message::Unknown(answer)).await;
            }
            Ok(())
        }
        message => tell(node, Event::Received { peer, message }).await,
    }
}

async fn tell(node: &NodeContext, event: Event) -> Result<(), EngineGone> {
    node.events.send(event).await.map_err(|_| EngineGone)
}

async fn hand_on_content(
    link: &Link,
    content: Content,
    node: &NodeContext,
) -> Result<(), EngineGone> {
    let (peer, id) = (link.peer, content.id);
    let mut refused = Vec::new();
    let event = apply_policy(link, content, node, &mut refused).await;
    for session in refused {
        tell(node, Event::Refused { peer, id, refusal: Refusal::Session(session) }).await?;
    }
    match event {
        Some(event) => tell(node, event).await,
        None => Ok(()),
    }
}

/// What the machine is told of content, if it is told of it now, beside the sessions that are taken
/// out of it.
async fn apply_policy(
    link: &Link,
    content: Content,
    node: &NodeContext,
    refused: &mut Vec<SessionId>,
) -> Option<Event> {
    let waits = &node.counters.back_pressure;
    let id = content.id;
    let refuse = |id| Some(Event::Refused { peer: link.peer, id, refusal: Refusal::Content });
    let content = match node.policy.content(link, content, refused).await {
        Verdict::Take(content) => {
            link.credit.take(content_credit(&content), waits).await;
            content
        }
        Verdict::Refuse => return refuse(id),
        Verdict::Park(content) => {
            link.credit.take(content_credit(&content), waits).await;
            match node.policy.park(link, content) {
                Parked::NotNeeded(content) => content,
                Parked::Kept => return None,
                Parked::TooMuch(content) => {
                    link.credit.release(content_credit(&content));
                    return refuse(content.id);
                }
            }
        }
    };
    Some(Event::Received { peer: link.peer, message: Message::Content(content) })
}

/// Holds a client to its rates, and to those of its key, by reading nothing for a while.
struct Throttle<'a> {
    link: &'a Link,
    node: &'a NodeContext,
    own: Buckets,
    patience: Patience,
}

/// How long a frame is held back.
#[derive(Clone, Copy)]
struct Wait {
    /// For the connection.
    own: Duration,
    /// For all connections with its key.
    key: Duration,
    /// Whether that is all the patience that is left, and not enough.
    is_last: bool,
}

impl Wait {
    fn is_none(&self) -> bool {
        self.own.is_zero() && self.key.is_zero() && !self.is_last
    }
}

impl<'a> Throttle<'a> {
    /// `None` for those without limits.
    fn new(link: &'a Link, node: &'a NodeContext) -> Option<Self> {
        let rates = node.limits.connection;
        matches!(link.kind, Kind::Client).then(|| Self {
            link,
            node,
            own: Buckets::new(rates, Instant::now()),
            patience: Patience::default(),
        })
    }

    fn take(&mut self, incoming: &Incoming) -> Wait {
        let messages = (incoming.messages.len() + incoming.rejected.len()).max(1) as u64;
        // Where nothing is encoded, transactions are what there is to count.
        let bytes = if incoming.bytes == 0 {
            incoming.messages.iter().map(transaction_bytes).sum()
        } else {
            incoming.bytes as u64
        };
        let now = Instant::now();
        let left = self.patience.left(self.node.limits.patience, now);
        let none = Duration::ZERO;
        let wait = match self.own.take(messages, bytes, left, now) {
            Err(TooLong) => Wait { own: left, key: none, is_last: true },
            Ok(own) => match self.link.key.as_ref().map(|key| key.take(messages, bytes, left, now))
            {
                Some(Err(TooLong)) => Wait { own, key: left, is_last: true },
                Some(Ok(key)) => Wait { own, key, is_last: false },
                None => Wait { own, key: none, is_last: false },
            },
        };
        let longest = wait.own.max(wait.key);
        if !longest.is_zero() {
            self.patience.use_up(longest, now);
        }
        wait
    }

    /// Waits. An error is why the connection is to end instead.
    async fn hold_back(&self, wait: Wait) -> Result<(), CloseReason> {
        let limits = &self.node.counters.limits;
        for (waits, micros_cell, wait) in [
            (&limits.connection_rate, &limits.connection_rate_micros, wait.own),
            (&limits.key_rate, &limits.key_rate_micros, wait.key),
        ] {
            if !wait.is_zero() {
                add(waits, 1);
                add(micros_cell, micros(wait));
            }
        }
        let longest = wait.own.max(wait.key);
        if !longest.is_zero() {
            tokio::time::sleep(longest).await;
        }
        if !wait.is_last {
            return Ok(());
        }
        add(&limits.closed_for_rate, 1);
        let patience = self.node.limits.patience;
        let text = format!("sending faster than allowed for {} s", patience.as_secs());
        warn!(peer = %self.link.info.address, "closing: {text}");
        Err(CloseReason::new(CloseCode::PolicyViolation, text))
    }
}

fn transaction_bytes(message: &Message) -> u64 {
    match message {
        Message::Content(content) => content.sessions.iter().map(SessionContent::json_len).sum(),
        _ => 0,
    }
}
