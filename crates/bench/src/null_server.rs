//! A server that does as little as possible.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use downbeat_protocol::{CoValueId, Content, Known, KnownState, Message, SessionCounts};
use downbeat_transport::{Connection, Listener, Sender};
use downbeat_transport_ws::{WsListener, WsOptions};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::error::BenchError;

/// The number of messages that may wait for a client. More than any workload has in flight; the
/// server waits for a slower client.
const OUTGOING: usize = 4096;

/// The number of messages that are written to a socket at once.
const BATCH: usize = 64;

/// A server that neither verifies nor stores content. It acknowledges content, keeps it in memory,
/// and sends it to clients that load it or are subscribed. A workload against it measures the upper
/// limit of the clients and their connections.
pub struct NullServer {
    listener: WsListener,
    values: Arc<Mutex<HashMap<CoValueId, Value>>>,
}

#[derive(Default)]
struct Value {
    contents: Vec<Content>,
    sessions: SessionCounts,
    subscribers: Vec<mpsc::Sender<Message>>,
}

impl NullServer {
    /// Listens on an address. With port 0, the system chooses the port.
    pub async fn bind(address: &str) -> Result<Self, BenchError> {
        let mut options = WsOptions::default();
        // All clients of a workload have the same address.
        options.connection_limits.per_address = options.connection_limits.total;
        let listener = WsListener::bind(address, options).await.map_err(BenchError::Listen)?;
        Ok(Self { listener, values: Arc::default() })
    }

    /// The URL of the server.
    pub fn url(&self) -> String {
        self.listener.url()
    }

    /// Serves until the listener fails or the future is dropped.
    pub async fn run(mut self) -> Result<(), BenchError> {
        loop {
            let connection = self.listener.accept().await?;
            tokio::spawn(serve(connection, Arc::clone(&self.values)));
        }
    }
}

async fn serve(connection: Connection, values: Arc<Mutex<HashMap<CoValueId, Value>>>) {
    let Connection { sender, mut receiver, .. } = connection;
    let (outgoing, queue) = mpsc::channel(OUTGOING);
    let writing = tokio::spawn(write(sender, queue));
    // A client may disconnect in any way.
    while let Ok(Some(frame)) = receiver.receive().await {
        for message in frame.messages {
            let (answers, subscribers) = {
                let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
                answer(message, &outgoing, &mut values)
            };
            for (subscriber, message) in subscribers {
                // Drop subscribers that have disconnected.
                let _ = subscriber.send(message).await;
            }
            for answer in answers {
                if outgoing.send(answer).await.is_err() {
                    return;
                }
            }
        }
    }
    drop(outgoing);
    writing.abort();
}

/// The messages for the sender and for the other subscribers.
fn answer(
    message: Message,
    from: &mpsc::Sender<Message>,
    values: &mut HashMap<CoValueId, Value>,
) -> (Vec<Message>, Vec<(mpsc::Sender<Message>, Message)>) {
    match message {
        Message::Content(content) => {
            let id = content.id;
            let value = values.entry(id).or_default();
            for part in &content.sessions {
                value.sessions.raise(&part.session, part.end());
            }
            value.subscribers.retain(|subscriber| !subscriber.is_closed());
            let to_others = value
                .subscribers
                .iter()
                .filter(|subscriber| !subscriber.same_channel(from))
                .map(|subscriber| (subscriber.clone(), Message::Content(content.clone())))
                .collect();
            value.contents.push(content);
            (vec![known(id, value)], to_others)
        }
        Message::Load(state) => {
            let value = values.entry(state.id).or_default();
            value.subscribers.push(from.clone());
            let lacking = value.contents.iter().filter(|content| {
                content.sessions.iter().any(|part| state.sessions.get(&part.session) < part.end())
            });
            let mut answers: Vec<_> = lacking.cloned().map(Message::Content).collect();
            if answers.is_empty() {
                answers.push(known(state.id, value));
            }
            (answers, Vec::new())
        }
        _ => (Vec::new(), Vec::new()),
    }
}

fn known(id: CoValueId, value: &Value) -> Message {
    let header = !value.contents.is_empty();
    let state = KnownState { id, header, sessions: value.sessions.clone() };
    Message::Known(Known { state, is_correction: false, as_dependency_of: None })
}

async fn write(mut sender: Box<dyn Sender>, mut queue: mpsc::Receiver<Message>) {
    let Some(interval) = sender.keep_alive_interval() else { return };
    let mut signs = tokio::time::interval(interval);
    signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let sent = tokio::select! {
            count = queue.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return;
                }
                let sent = sender.send(&batch).await.map(drop);
                batch.clear();
                sent
            }
            _ = signs.tick() => sender.keep_alive().await,
        };
        if sent.is_err() {
            return;
        }
    }
}
