//! A well-behaved connection, for the honest client and for content that attacks need stored.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use downbeat_core::known_state;
use downbeat_protocol::{Content, Known, KnownState, Message};
use downbeat_transport::{Connection, Connector, Receiver, Sender};
use downbeat_transport_ws::{WsConnector, WsOptions};

use crate::wire;

/// The time limit of an answer to a well-behaved client without an attack.
const PATIENCE: Duration = Duration::from_mins(2);

/// The unacknowledged content messages of an upload.
const WINDOW: usize = 32;

/// A connection of a client that waits for each answer.
pub(crate) struct Link {
    pub(crate) sender: Box<dyn Sender>,
    pub(crate) receiver: Box<dyn Receiver>,
}

impl Link {
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        let connector = WsConnector::new(&format!("ws://{address}"), WsOptions::default())?;
        let Connection { sender, receiver, .. } = connector.connect().await?;
        Ok(Self { sender, receiver })
    }

    pub(crate) async fn send(&mut self, message: Message) -> Result<()> {
        self.sender.send(&[message]).await?;
        Ok(())
    }

    /// The messages of the next frame that has any.
    pub(crate) async fn receive(&mut self) -> Result<Vec<Message>> {
        let messages = async {
            loop {
                let frame = self.receiver.receive().await?.context("the server has closed")?;
                if !frame.messages.is_empty() {
                    return anyhow::Ok(frame.messages);
                }
            }
        };
        tokio::time::timeout(PATIENCE, messages).await.context("the server does not answer")?
    }

    /// Uploads content, and waits until all of it is acknowledged.
    pub(crate) async fn upload(&mut self, contents: Vec<Content>) -> Result<()> {
        let mut unacknowledged: Vec<KnownState> = Vec::new();
        for content in contents {
            unacknowledged.push(wire::reached(&content));
            self.send(Message::Content(content)).await?;
            while unacknowledged.len() >= WINDOW {
                self.acknowledged(&mut unacknowledged).await?;
            }
        }
        while !unacknowledged.is_empty() {
            self.acknowledged(&mut unacknowledged).await?;
        }
        Ok(())
    }

    async fn acknowledged(&mut self, unacknowledged: &mut Vec<KnownState>) -> Result<()> {
        for message in self.receive().await? {
            let Message::Known(Known { state, is_correction, .. }) = message else { continue };
            ensure!(!is_correction, "the server corrects an upload of {}", state.id);
            unacknowledged.retain(|sent| {
                sent.id != state.id || !known_state::is_subset(&sent.sessions, &state.sessions)
            });
        }
        Ok(())
    }

    /// Loads a CoValue, and returns the counts of all that the server sends.
    pub(crate) async fn load(&mut self, expected: &KnownState) -> Result<KnownState> {
        let mut have = KnownState::empty(expected.id);
        self.send(Message::Load(have.clone())).await?;
        loop {
            for message in self.receive().await? {
                match message {
                    Message::Content(content) if content.id == expected.id => {
                        have.header |= content.header.is_some();
                        for run in &content.sessions {
                            have.sessions.raise(&run.session, run.end());
                        }
                    }
                    Message::Known(known) if known.state.id == expected.id => {
                        bail!("the server answers with {:?}", known.state);
                    }
                    _ => {}
                }
            }
            if have.header && known_state::is_subset(&expected.sessions, &have.sessions) {
                return Ok(have);
            }
        }
    }
}
