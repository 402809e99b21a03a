//! A client that sends forged content. None of it may ever be stored.

use std::time::Duration;

use anyhow::Result;
use downbeat_protocol::{Content, Header, Message, SessionContent, SessionId, Signature};
use downbeat_transport::{Connection, Connector};
use downbeat_transport_ws::{WsConnector, WsOptions};
use fastrand::Rng;

use crate::client::{AUTHORS, Shared, lock};
use crate::people::{self, Person};

/// The longest pause between two messages, in microseconds.
const MAX_PAUSE: u64 = 20_000;

/// The bound of the number of transactions that forged content claims to follow.
const MAX_AFTER: u64 = 4;

/// Sends transactions in the authors' sessions with false signatures, and headers with false ids,
/// until the connection ends. `seed` is the seed of the authors.
pub(crate) async fn forge(seed: u64, mut rng: Rng, shared: Shared, url: String) -> Result<()> {
    let Ok(connection) = WsConnector::new(&url, WsOptions::default())?.connect().await else {
        return Ok(());
    };
    let Connection { mut sender, mut receiver, .. } = connection;
    let sessions: Vec<SessionId> = (0..AUTHORS)
        .flat_map(|number| Person::new(seed, number).sessions)
        .chain(Person::new(!seed, AUTHORS).sessions)
        .collect();
    loop {
        let pause = Duration::from_micros(rng.u64(..MAX_PAUSE));
        tokio::select! {
            incoming = receiver.receive() => {
                let Ok(Some(_)) = incoming else { return Ok(()) };
            }
            () = tokio::time::sleep(pause) => {
                let message = false_content(&mut rng, &sessions, &shared);
                if let Some(message) = message && sender.send(&[message]).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

fn false_content(rng: &mut Rng, sessions: &[SessionId], shared: &Shared) -> Option<Message> {
    let id = rng.choice(lock(shared).iter().copied())?;
    let session = rng.choice(sessions)?.clone();
    let run = SessionContent {
        session,
        after: rng.u64(..MAX_AFTER),
        transactions: vec![people::set("forged", "true")],
        last_signature: Signature::from_bytes(&[7; 64]),
    };
    let header: Header = people::map(None, rng.u64(..));
    Some(Message::Content(Content {
        id,
        priority: header.priority(),
        header: Some(header).filter(|_| rng.u32(..4) == 0),
        sessions: vec![run],
        malformed: Vec::new(),
        expect_content_until: None,
    }))
}
