//! The worst attacks over the TCP transport.

use anyhow::Result;
use downbeat_protocol::{
    Content, Known, KnownState, Message, Owner, Reconcile, SessionCounts, ShortHash,
};
use std::sync::atomic::Ordering;

use crate::attacks::memory::LARGE_FRAME;
use crate::attacks::reconcile;
use crate::attacks::sessions;
use crate::attacks::signatures;
use crate::author::Author;
use crate::ground::Ground;
use crate::wire;

pub(crate) async fn reconcile_flood(ground: &mut Ground) -> Result<()> {
    let hash = ShortHash::parse(wire::WRONG_HASH)?;
    let messages = (0..ground.pick(40, 15)).map(|number| {
        let values =
            ground.random_ids(reconcile::VALUES).into_iter().map(|id| (id, hash)).collect();
        Message::Reconcile(Reconcile { id: format!("batch {number}"), values })
    });
    let messages = messages.collect();
    send_all(ground, messages).await
}

pub(crate) async fn claims(ground: &mut Ground) -> Result<()> {
    let owner = Owner::Account(wire::random_id(&mut ground.rng));
    let sessions: SessionCounts = (0..ground.pick(100_000, 40_000))
        .map(|_| (wire::random_session(&mut ground.rng, &owner), 1))
        .collect();
    let ids = ground.random_ids(ground.pick(100, 30));
    let messages = ids.into_iter().flat_map(|id| {
        let state = KnownState { id, header: true, sessions: sessions.clone() };
        let known = Known { state: state.clone(), is_correction: false, as_dependency_of: None };
        [Message::Load(state), Message::Known(known)]
    });
    let messages = messages.collect();
    send_all(ground, messages).await
}

pub(crate) async fn wrong_signatures(ground: &mut Ground) -> Result<()> {
    let author = Author::new(900);
    let count = ground.pick(20_000, 10_000);
    let contents = signatures::wrong(&author, &author.open_map("wrong"), count, 5_000, 10);
    send_contents(ground, contents).await
}

pub(crate) async fn many_sessions(ground: &mut Ground) -> Result<()> {
    let author = Author::new(901);
    let count = ground.pick(20_000, 8_000);
    let contents = sessions::sessions(&author, &author.open_map("sessions"), count);
    ground.may_store(count * 600);
    send_contents(ground, contents).await
}

pub(crate) async fn batch_ids(ground: &mut Ground) -> Result<()> {
    let hash = ShortHash::parse(wire::WRONG_HASH)?;
    let ids = ground.random_ids(ground.pick(96, 32));
    let messages = ids.into_iter().map(|id| {
        Message::Reconcile(Reconcile { id: "b".repeat(LARGE_FRAME), values: vec![(id, hash)] })
    });
    let messages = messages.collect();
    send_all(ground, messages).await
}

async fn send_contents(ground: &mut Ground, contents: Vec<Content>) -> Result<()> {
    send_all(ground, contents.into_iter().map(Message::Content).collect()).await
}

/// Sends messages over one connection, which is read, and stays open.
async fn send_all(ground: &mut Ground, messages: Vec<Message>) -> Result<()> {
    ground.begin().await?;
    let connection = ground.connect_tcp().await?;
    let counters = ground.counters.clone();
    counters.connections.fetch_add(1, Ordering::Relaxed);
    let (mut sender, mut reading) = (connection.sender, connection.receiver);
    let sending = async {
        for message in &messages {
            // The server has closed the connection.
            let Ok(sent) = sender.send(std::slice::from_ref(message)).await else { return };
            counters.sent.fetch_add(sent as u64, Ordering::Relaxed);
            counters.messages.fetch_add(1, Ordering::Relaxed);
        }
    };
    let received = ground.counters.clone();
    tokio::spawn(async move {
        while let Ok(Some(frame)) = reading.receive().await {
            received.received.fetch_add(frame.bytes as u64, Ordering::Relaxed);
        }
        received.closed_by_server.fetch_add(1, Ordering::Relaxed);
    });
    let result = tokio::select! {
        () = sending => Ok(()),
        over = ground.pause(std::time::Duration::from_mins(10)) => over,
    };
    ground.keep(sender);
    result?;
    Ok(())
}
