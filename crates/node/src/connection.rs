//! The task of one connection: it reads, writes, and waits for the end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use downbeat_sync::{Event, PeerId};
use downbeat_transport::{CloseReason, Connection, Receiver, Sender, TransportError};
use tokio::sync::{mpsc, watch};
use tracing::debug;

use crate::context::NodeContext;
use crate::credit::Credit;
use crate::ending::Cause;
use crate::link::{Debts, Kind, Link};
use crate::places::Places;
use crate::poll_on_wake::PollOnWake;
use crate::proof::Proof;
use crate::reading;
use crate::source::Source;
use crate::stage::{End, Stage};
use crate::turn_slot::TurnSlot;
use crate::writing;

/// Answers from the reading half to the writing half of a connection that wait while a turn is
/// written. Beyond that nothing is read, so that they cannot gather in memory.
const ANSWERS_WAITING: usize = 16;

/// How long a connection that takes nothing more is read for what the peer had sent before. Most
/// have it in their buffers, and are through at once.
const LEFTOVER_TIME: Duration = Duration::from_secs(5);

/// Prepares a connection. The engine has to know the link before the tasks report their first
/// event, so they are started by the caller.
pub(crate) fn open(
    connection: Connection,
    peer: PeerId,
    kind: Kind,
    node: NodeContext,
) -> (Arc<Link>, Starter) {
    let Connection { info, sender, receiver } = connection;
    let (close, closing) = watch::channel(None);
    let key = match (&kind, &info.label) {
        (Kind::Client, Some(label)) => Some(node.usage.key(label)),
        _ => None,
    };
    let source = Source::of(peer, &info);
    let address = match &kind {
        Kind::Client => node.addresses.get(source),
        _ => None,
    };
    let link = Arc::new(Link {
        peer,
        info,
        kind,
        source,
        address,
        key,
        turn: TurnSlot::default(),
        credit: Credit::new(Arc::clone(&node.credit)),
        places: Places::default(),
        debts: Debts::default(),
        max_strikes: node.limits.strikes,
        proof: Proof::default(),
        close,
    });
    let end = End { stage: node.stage.clone(), close: closing };
    let starter = Starter { link: Arc::clone(&link), sender, receiver, end, node };
    (link, starter)
}

/// A connection whose tasks have not been started.
pub(crate) struct Starter {
    link: Arc<Link>,
    sender: Box<dyn Sender>,
    receiver: Box<dyn Receiver>,
    end: End,
    node: NodeContext,
}

impl Starter {
    /// Reads and writes until the connection ends, reports the end, and tells why it has come.
    pub(crate) async fn run(self) -> Cause {
        let Self { link, mut sender, receiver, mut end, node } = self;
        let cause = {
            let (answer, answers) = mpsc::channel(ANSWERS_WAITING);
            let reader = pin!(reading::read(&link, receiver, &answer, &node));
            let mut reader = PollOnWake::new(reader);
            let ended = {
                let turns = link.turn.receiver();
                let writer = pin!(writing::write(&link, turns, &mut *sender, answers, &node));
                let mut writer = PollOnWake::new(writer);
                let end = pin!(end.reached());
                tokio::select! {
                    // The node's own reasons come first: a peer that takes nothing must not delay
                    // them.
                    biased;
                    reason = PollOnWake::new(end) => Ended::Closed(reason),
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
                    let shuts_down = *node.stage.borrow() >= Stage::Closing;
                    if shuts_down { Cause::ShutDown } else { Cause::Closed }
                }
            }
        };
        node.counters.disconnects.count(&link.kind, cause);
        debug!(peer = %link.info.address, %cause, "disconnected");
        let _ = node.events.send(Event::Disconnected(link.peer)).await;
        cause
    }
}

/// How a connection ends.
enum Ended {
    /// The peer or the engine has gone.
    Over(Cause),
    /// The peer takes nothing more.
    Broken(TransportError),
    /// The node ends it.
    Closed(CloseReason),
}
