//! A client's connection, on which sending never waits for receiving.

use std::time::Duration;

use downbeat_protocol::{Content, Known, KnownState, Message};
use downbeat_transport::{CloseCode, CloseReason, Connector, Receiver};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::BenchError;
use crate::measurement::Traffic;
use crate::target::Target;

/// The number of messages that may wait for the socket. No workload has more in flight on one
/// connection, so a client never waits to send its next message.
const OUTGOING: usize = 4096;

/// The number of messages that are written to the socket at once.
const BATCH: usize = 64;

/// The timeout for an answer. The slowest operation of all workloads, loading 100 MB in many
/// messages, has an answer within a fraction of it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// One client.
pub(crate) struct Client {
    outgoing: mpsc::Sender<Message>,
    writing: JoinHandle<()>,
    receiver: Box<dyn Receiver>,
    traffic: Traffic,
}

impl Client {
    pub(crate) async fn connect(target: &Target, traffic: &Traffic) -> Result<Self, BenchError> {
        let connection = target.connector()?.connect().await?;
        let (outgoing, mut queue) = mpsc::channel(OUTGOING);
        let mut sender = connection.sender;
        let sent = traffic.clone();
        let writing = tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while queue.recv_many(&mut batch, BATCH).await > 0 {
                match sender.send(&batch).await {
                    Ok(bytes) => sent.count_sent(bytes),
                    // The receiving half reports the same error.
                    Err(_) => return,
                }
                batch.clear();
            }
            // Fails if the server has disconnected, and then needs no close message.
            let _ = sender.close(CloseReason::new(CloseCode::Normal, "done")).await;
        });
        Ok(Self { outgoing, writing, receiver: connection.receiver, traffic: traffic.clone() })
    }

    /// Connects several clients.
    pub(crate) async fn connect_all(
        target: &Target,
        traffic: &Traffic,
        count: usize,
    ) -> Result<Vec<Self>, BenchError> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(Self::connect(target, traffic).await?);
        }
        Ok(clients)
    }

    pub(crate) async fn send(&mut self, message: Message) -> Result<(), BenchError> {
        self.outgoing.send(message).await.map_err(|_| BenchError::Closed)
    }

    /// Acknowledges content, as clients do.
    pub(crate) async fn acknowledge(&mut self, state: KnownState) -> Result<(), BenchError> {
        self.send(Message::Known(Known { state, is_correction: false, as_dependency_of: None }))
            .await
    }

    /// The messages of the next frame that has any. `due` names the expected answer.
    pub(crate) async fn receive(
        &mut self,
        due: impl Fn() -> String,
    ) -> Result<Vec<Message>, BenchError> {
        // Pings are not answers.
        let waiting = async {
            loop {
                let frame = self.receiver.receive().await?.ok_or(BenchError::Closed)?;
                self.traffic.count_received(frame.bytes);
                if let Some(rejection) = frame.rejected.first() {
                    return Err(BenchError::Wrong(format!("unreadable: {rejection:?}")));
                }
                if !frame.messages.is_empty() {
                    return Ok(frame.messages);
                }
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(received) => received,
            Err(_) => Err(BenchError::Silent(PATIENCE, due())),
        }
    }

    /// Uploads content, and waits until all of it is acknowledged.
    pub(crate) async fn upload(&mut self, contents: &[Content]) -> Result<(), BenchError> {
        for content in contents {
            self.send(Message::Content(content.clone())).await?;
            self.acknowledged(content).await?;
        }
        Ok(())
    }

    async fn acknowledged(&mut self, content: &Content) -> Result<(), BenchError> {
        loop {
            for message in self.receive(|| format!("{} to be acknowledged", content.id)).await? {
                if let Message::Known(known) = message
                    && covers(&known, content)?
                {
                    return Ok(());
                }
            }
        }
    }

    /// Closes the connection, and waits until the close message has been sent.
    pub(crate) async fn close(self) {
        drop(self.outgoing);
        // Fails only if the task has panicked, which the test harness or the terminal shows.
        let _ = self.writing.await;
    }
}

/// Whether the message acknowledges all of the content. A correction is an error, because workloads
/// send content without gaps.
pub(crate) fn covers(known: &Known, content: &Content) -> Result<bool, BenchError> {
    if known.state.id != content.id {
        return Ok(false);
    }
    if known.is_correction {
        return Err(BenchError::Wrong(format!("a correction of {}", content.id)));
    }
    Ok(content.sessions.iter().all(|part| known.state.sessions.get(&part.session) >= part.end()))
}
