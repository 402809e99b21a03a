//! Clients that read slowly, all at once, or again and again.

use std::time::{Duration, Instant};

use anyhow::Result;
use downbeat_protocol::Content;

use crate::author::{Author, Log, sized};
use crate::ground::Ground;
use crate::socket::{Frames, Reading};
use crate::wire;

/// The pause between two writes to a hot CoValue.
const HOT_WRITE: Duration = Duration::from_millis(5);

/// The slow readers of a hot CoValue.
pub(crate) async fn hot_co_value(ground: &mut Ground) -> Result<()> {
    let author = Author::new(500);
    let mut log = Log::new(author.open_map("hot"), author.agent_session(0));
    ground.upload(vec![log.write(&author, vec![sized(100)])]).await?;
    let writes = ground.pick(3_000, 600);
    let writes: Vec<_> =
        (0..writes).map(|_| wire::content(log.append(&author, vec![sized(4_000)]))).collect();
    for write in &writes {
        ground.may_store(write.len());
    }
    ground.begin().await?;
    for number in 0..ground.pick(400, 200) {
        let reading = if number % 2 == 0 { Reading::Nothing } else { Reading::Slowly };
        let socket = ground.connect_reading(reading).await?;
        socket.send(&wire::load(log.id(), "")).await?;
    }
    let author = ground.connect().await?;
    let began = Instant::now();
    for (write, number) in writes.iter().zip(0..) {
        author.send(write).await?;
        ground.pause_until(began + HOT_WRITE * number).await?;
    }
    Ok(())
}

/// Many clients load the same large CoValue at once, and read it.
pub(crate) async fn crowd(ground: &mut Ground) -> Result<()> {
    let author = Author::new(501);
    let mut log = Log::new(author.open_map("crowd"), author.agent_session(0));
    let contents = (0..ground.pick(50, 10)).map(|_| log.write(&author, vec![sized(50_000)]));
    ground.upload(contents.collect()).await?;
    ground.begin().await?;
    let mut sockets = Vec::new();
    for _ in 0..ground.pick(990, 200) {
        sockets.push(ground.connect().await?);
    }
    for socket in sockets {
        socket.send(&wire::load(log.id(), "")).await?;
    }
    Ok(())
}

/// One client loads the same large CoValue again and again, as if it had nothing.
pub(crate) async fn repeated_loads(ground: &mut Ground) -> Result<()> {
    let author = Author::new(502);
    let mut log = Log::new(author.open_map("again"), author.agent_session(0));
    let contents: Vec<Content> =
        (0..100).map(|_| log.write(&author, vec![sized(50_000)])).collect();
    ground.upload(contents).await?;
    let load = wire::load(log.id(), "");
    let frames: Frames = (0..1_000).map(|_| &load).collect();
    let count = ground.pick(20, 5);
    ground.begin().await?;
    let readers = [Reading::All, Reading::Slowly, Reading::Nothing];
    for reading in readers {
        let socket = ground.connect_reading(reading).await?;
        for _ in 0..count {
            // The server may close a connection that does not read.
            if socket.send_frames(&frames).await.is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// One client claims by turns everything, nothing, and a part of a CoValue.
pub(crate) async fn stale_claims(ground: &mut Ground) -> Result<()> {
    let author = Author::new(503);
    let mut log = Log::new(author.open_map("stale"), author.agent_session(0));
    let contents = (0..200).map(|_| log.write(&author, vec![sized(500)])).collect();
    ground.upload(contents).await?;
    let claims: Vec<String> = [0, 200, 7, 1_000_000, 150]
        .iter()
        .map(|count| format!(r#""{}":{count}"#, log.session()))
        .flat_map(|claim| [wire::load(log.id(), &claim), wire::known(log.id(), &claim)])
        .collect();
    let frames = |_| claims.iter().cycle().take(1_000).collect::<Frames>();
    let frames: Vec<Frames> = (0..ground.pick(60, 20)).map(frames).collect();
    ground.begin().await?;
    ground.flood(frames).await
}
