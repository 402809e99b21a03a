//! Reading from a peer: frames in, within its limits, and events out.

use std::pin::pin;

use downbeat_protocol::{CoValueId, Content, Message};
use downbeat_sync::cost::content_credit;
use downbeat_sync::{Event, Refusal};
use downbeat_transport::{Blame, Incoming, Receiver, TransportError};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::context::NodeContext;
use crate::ending::Cause;
use crate::link::Link;
use crate::policy::Verdict;
use crate::portions::Portions;
use crate::proof::Parked;
use crate::stage::{Stage, reached};
use crate::stats::add;
use crate::throttle::Throttle;

/// Credit that a peer may have taken when the next portion of a large message is handed on. If the
/// first portions turn out to be bad, the engine and the verifiers have not been kept busy with the
/// rest. Two small portions fit.
const PORTIONS_AHEAD: u64 = 256 << 10;

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
            tell(link, node, Event::Refused { peer, id: state.id, refusal }).await
        }
        Message::Load(state) => {
            for refusal in node.policy.refusals(link, &state) {
                tell(link, node, Event::Refused { peer, id: state.id, refusal }).await?;
            }
            tell(link, node, Event::Received { peer, message: Message::Load(state) }).await
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
        message => tell(link, node, Event::Received { peer, message }).await,
    }
}

/// Queues something for the engine.
async fn tell(link: &Link, node: &NodeContext, event: Event) -> Result<(), EngineGone> {
    link.places.take().await;
    node.events.send(event).await.map_err(|_| EngineGone)
}

async fn hand_on_content(
    link: &Link,
    content: Content,
    node: &NodeContext,
) -> Result<(), EngineGone> {
    let (peer, id) = (link.peer, content.id);
    let mut refused = Vec::new();
    let verdict = node.policy.content(link, content, &mut refused).await;
    for session in refused {
        tell(link, node, Event::Refused { peer, id, refusal: Refusal::Session(session) }).await?;
    }
    match verdict {
        Verdict::Take(content) => take(link, Portions::of(content), node).await,
        Verdict::Refuse => refuse(link, id, node).await,
        // Boxed, because it is rare, and would make the state of all content larger.
        Verdict::Park(content) => Box::pin(park(link, content, node)).await,
    }
}

/// Hands content on, each portion when the peer has credit for it.
async fn take(link: &Link, mut portions: Portions, node: &NodeContext) -> Result<(), EngineGone> {
    let mut is_first = true;
    for portion in &mut portions {
        if !std::mem::take(&mut is_first) {
            link.credit.below(PORTIONS_AHEAD).await;
        }
        let bytes = content_credit(&portion);
        let loan = link.credit.take(bytes, &node.counters.back_pressure).await;
        let message = Message::Content(portion);
        tell(link, node, Event::Received { peer: link.peer, message }).await?;
        loan.keep();
    }
    Ok(())
}

/// Keeps content until its sender has shown who it is.
async fn park(link: &Link, content: Content, node: &NodeContext) -> Result<(), EngineGone> {
    let waits = &node.counters.back_pressure;
    let loan = link.credit.take(content_credit(&content), waits).await;
    match node.policy.park(link, content) {
        Parked::NotNeeded(content) => {
            drop(loan);
            take(link, Portions::of(content), node).await
        }
        Parked::Kept => {
            loan.keep();
            Ok(())
        }
        Parked::TooMuch(content) => {
            drop(loan);
            refuse(link, content.id, node).await
        }
    }
}

async fn refuse(link: &Link, id: CoValueId, node: &NodeContext) -> Result<(), EngineGone> {
    tell(link, node, Event::Refused { peer: link.peer, id, refusal: Refusal::Content }).await
}
