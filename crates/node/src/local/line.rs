//! The connection between an open CoValue and the node.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::Duration;

use downbeat_protocol::{CoValueId, KnownState, Message};
use downbeat_sync::Rejection;
use downbeat_transport::{Connection, PeerInfo, Receiver, Sender, pair};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::LocalError;
use crate::engine::Command;
use crate::link::Kind;
use crate::shared::Shared;

/// Messages that wait in each direction: some hundred KiB of pieces, enough to read ahead of a
/// program that takes them one by one.
const LINE_MESSAGES: usize = 4;

/// How long to wait before what was not found is asked for once more (reference: 3 s).
const LOAD_RETRY: Duration = Duration::from_secs(3);

/// The program's end of a connection to its own node.
pub(super) struct Line {
    sender: Box<dyn Sender>,
    receiver: Box<dyn Receiver>,
    /// Taken from the receiver and not handed on yet.
    inbox: VecDeque<Message>,
    shared: Weak<Shared>,
    refused: watch::Receiver<Option<Rejection>>,
}

impl Line {
    /// Connects to the node as a client.
    pub(super) async fn open(shared: &Weak<Shared>) -> Result<Self, LocalError> {
        let weak = Weak::clone(shared);
        let shared = shared.upgrade().ok_or(LocalError::ShutDown)?;
        let (ours, theirs) = pair(LINE_MESSAGES);
        let theirs = Connection { info: PeerInfo::new("local"), ..theirs };
        let (refuse, refused) = watch::channel(None);
        let served = shared.serve(theirs, Kind::Local(refuse)).await;
        served.map_err(|_| LocalError::ShutDown)?;
        let Connection { sender, receiver, .. } = ours;
        Ok(Self { sender, receiver, inbox: VecDeque::new(), shared: weak, refused })
    }

    /// Whether an upstream that may have a CoValue is not connected.
    async fn is_upstream_away(&mut self, id: CoValueId) -> Result<bool, LocalError> {
        let commands = self.shared.upgrade().ok_or(LocalError::ShutDown)?.commands.clone();
        let (done, answer) = oneshot::channel();
        let asked = commands.send(Command::IsUpstreamAway(id, done)).await;
        asked.map_err(|_| LocalError::ShutDown)?;
        answer.await.map_err(|_| LocalError::ShutDown)
    }

    /// Sends messages when there is room. Dropped before it returns, it may have sent some.
    pub(super) async fn send(&mut self, messages: &[Message]) -> Result<(), LocalError> {
        self.sender.send(messages).await.map(|_| ()).map_err(|_| LocalError::ShutDown)
    }

    /// The node's next message. Can be dropped without losing one.
    pub(super) async fn next(&mut self) -> Result<Message, LocalError> {
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Ok(message);
            }
            let incoming = tokio::select! {
                biased;
                incoming = self.receiver.receive() => incoming,
                refused = self.refused.wait_for(Option::is_some) => {
                    let rejection = refused.ok().and_then(|refused| refused.clone());
                    return Err(rejection.map_or(LocalError::ShutDown, LocalError::Rejected));
                }
            };
            match incoming {
                Ok(Some(incoming)) => self.inbox.extend(incoming.messages),
                Ok(None) | Err(_) => return Err(LocalError::ShutDown),
            }
        }
    }
}

/// A request for a CoValue, which is repeated once if the CoValue is not found.
pub(super) struct Request {
    have: KnownState,
    state: Asked,
}

enum Asked {
    /// Once, and no answer yet.
    Once,
    /// It was not found. Next, the engine says whether all upstreams were asked.
    Missing {
        /// Whether this was the second answer.
        is_last: bool,
    },
    /// It was not found, and is requested again at this time.
    Again(Instant),
    /// For the second time.
    Twice,
    /// It is there.
    Found,
}

impl Request {
    /// Asks for what there is beyond `have`.
    pub(super) async fn send(line: &mut Line, have: KnownState) -> Result<Self, LocalError> {
        line.send(&[Message::Load(have.clone())]).await?;
        Ok(Self { have, state: Asked::Once })
    }

    /// The CoValue.
    pub(super) fn id(&self) -> CoValueId {
        self.have.id
    }

    /// The next message that is not word of a CoValue that is missing. Can be dropped without
    /// losing one.
    pub(super) async fn next(&mut self, line: &mut Line) -> Result<Message, LocalError> {
        let id = self.have.id;
        loop {
            let message = match self.state {
                // Dropped while it waits, this is done once more.
                Asked::Missing { is_last } => {
                    if line.is_upstream_away(id).await? {
                        return Err(LocalError::Unreachable(id));
                    }
                    if is_last {
                        return Err(LocalError::NotFound(id));
                    }
                    self.state = Asked::Again(Instant::now() + LOAD_RETRY);
                    continue;
                }
                Asked::Again(at) => {
                    let Ok(message) = tokio::time::timeout_at(at, line.next()).await else {
                        line.send(&[Message::Load(self.have.clone())]).await?;
                        self.state = Asked::Twice;
                        continue;
                    };
                    message?
                }
                Asked::Once | Asked::Twice | Asked::Found => line.next().await?,
            };
            match (&message, &self.state) {
                (_, Asked::Found) => {}
                (Message::Content(content), _) if content.id == id => self.state = Asked::Found,
                (Message::Known(known), state) if known.state.id == id => {
                    if known.state.header {
                        self.state = Asked::Found;
                    } else {
                        let is_last = matches!(state, Asked::Twice);
                        self.state = Asked::Missing { is_last };
                        continue;
                    }
                }
                _ => {}
            }
            return Ok(message);
        }
    }
}
