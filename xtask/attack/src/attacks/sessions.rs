//! CoValues with many sessions.

use std::time::Duration;

use anyhow::Result;
use downbeat_protocol::{Content, Header};

use crate::author::{Author, Log, content, sized};
use crate::ground::Ground;
use crate::socket::Frames;
use crate::wire;

/// The sessions in one message: about 25 KB, like the messages of clients.
const PER_MESSAGE: usize = 50;

/// The pause between two trickled writes.
const TRICKLE: Duration = Duration::from_millis(20);

pub(crate) async fn many_sessions(ground: &mut Ground) -> Result<()> {
    let author = Author::new(200);
    let count = ground.pick(20_000, 8_000);
    let header = author.open_map("sessions");
    let frames: Frames = sessions(&author, &header, count).into_iter().map(wire::content).collect();
    ground.may_store(frames.len());
    ground.begin().await?;
    ground.flood([frames]).await
}

pub(crate) async fn acknowledged_sessions(ground: &mut Ground) -> Result<()> {
    let author = Author::new(201);
    let header = author.open_map("sessions");
    let count = ground.pick(6_000, 3_000);
    ground.upload(sessions(&author, &header, count)).await?;
    let mut log = Log::new(header, author.agent_session(u64::MAX));
    let mut writes = Vec::new();
    for _ in 0..ground.pick(900, 200) {
        writes.push(wire::content(log.append(&author, vec![sized(100)])));
    }
    ground.own_bounds.received = Some(ground.pick(48 << 20, 16 << 20));
    ground.begin().await?;
    for _ in 0..50 {
        let subscriber = ground.connect_uncounted().await?;
        subscriber.send(&wire::load(log.id(), "")).await?;
    }
    let socket = ground.connect().await?;
    for write in writes {
        socket.send(&write).await?;
        ground.pause(TRICKLE).await?;
    }
    Ok(())
}

/// The first transaction of each of many sessions, in several messages.
pub(crate) fn sessions(author: &Author, header: &Header, count: usize) -> Vec<Content> {
    let mut contents: Vec<Content> = Vec::new();
    for number in 0..count {
        let session = author.agent_session(number as u64);
        let mut log = Log::new(header.clone(), session);
        let run = log.append(author, vec![sized(10)]).sessions;
        match contents.last_mut() {
            Some(last) if last.sessions.len() < PER_MESSAGE => last.sessions.extend(run),
            _ => contents.push(content(log.id(), header, run)),
        }
    }
    if let Some(content) = contents.first_mut() {
        content.header = Some(header.clone());
    }
    contents
}
