//! A WebSocket client: asks a sync server for a CoValue and prints the answers.
//!
//! `cargo run -p downbeat-transport-ws --example client -- ws://127.0.0.1:4200 co_z...`

use std::time::Duration;

use downbeat_protocol::{CoValueId, KnownState, Message};
use downbeat_transport::{CloseCode, CloseReason, Connector};
use downbeat_transport_ws::{WsConnector, WsOptions};

/// The pause after which the answer counts as complete.
const QUIET_TIME: Duration = Duration::from_secs(1);

/// Returns the server's messages about a CoValue.
pub(crate) async fn run(
    url: &str,
    id: CoValueId,
) -> Result<Vec<Message>, Box<dyn std::error::Error>> {
    let connector = WsConnector::new(url, WsOptions::default())?;
    let mut connection = connector.connect().await?;
    connection.sender.send(&[Message::Load(KnownState::empty(id))]).await?;
    let mut answers = Vec::new();
    // Pings keep coming: only messages count.
    let mut last = tokio::time::Instant::now();
    while let Ok(received) =
        tokio::time::timeout_at(last + QUIET_TIME, connection.receiver.receive()).await
    {
        let Some(frame) = received? else { break };
        if !frame.messages.is_empty() {
            last = tokio::time::Instant::now();
        }
        answers.extend(frame.messages);
    }
    connection.sender.close(CloseReason::new(CloseCode::Normal, "done")).await?;
    Ok(answers)
}

#[allow(dead_code, reason = "the tests include this file and call `run`")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [url, id] = arguments.as_slice() else {
        return Err("usage: client URL CO_VALUE_ID".into());
    };
    for message in run(url, id.parse()?).await? {
        println!("{message:?}");
    }
    Ok(())
}
