//! Content and messages that take more memory than they seem to.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;
use downbeat_crypto::short_hash;
use downbeat_protocol::{Header, Ruleset, Uniqueness};
use tokio::task::JoinSet;

use crate::attacks::reconcile;
use crate::attacks::signatures;
use crate::author::{Author, Log, sized};
use crate::ground::Ground;
use crate::socket::{Frames, Reading};
use crate::wire::{self, WRONG_HASH};

/// The length of a frame just below the default of `--max-message-size`.
pub(crate) const LARGE_FRAME: usize = 15 << 20;

/// A large transaction: clients since 0.18 create none with more than 1 MiB of changes.
const LARGE_TRANSACTION: usize = 1_000_000;

pub(crate) async fn junk_frames(ground: &mut Ground) -> Result<()> {
    let author = Author::new(400);
    let count = ground.pick(80, 32);
    let junk = format!("\"{}\"", "j".repeat(LARGE_FRAME));
    let header = author.open_map("junk");
    let messages: Vec<_> = (0..count)
        .map(|number| {
            let mut log = Log::new(header.clone(), author.agent_session(number));
            let text = wire::content(log.write(&author, vec![sized(30)]));
            ground.may_store(text.len());
            text
        })
        .collect();
    ground.begin().await?;
    for text in messages {
        ground.flood([Frames::one(&wire::with_member(&text, "junk", &junk))]).await?;
    }
    Ok(())
}

pub(crate) async fn large_headers(ground: &mut Ground) -> Result<()> {
    let count = ground.pick(300, 100);
    let messages: Vec<Frames> = (0..count)
        .map(|number| {
            let meta = format!(r#"{{"text":"{}"}}"#, "m".repeat(1 << 20));
            Frames::one(&only_header(&meta, &format!("large {number}")))
        })
        .collect();
    ground.begin().await?;
    ground.flood(messages).await
}

/// Content of only a header with this meta, in canonical JSON.
pub(crate) fn only_header(meta: &str, name: &str) -> String {
    const SHORT_META: &str = r#"{"short":0}"#;
    let header = Header::builder("comap", Ruleset::UnsafeAllowAll)
        .uniqueness(Uniqueness::Text(name.to_owned()))
        .meta(SHORT_META)
        .build()
        .expect("the meta is JSON");
    // Replacing the meta is faster than parsing a large one.
    let with_meta = |json: &[u8]| String::from_utf8_lossy(json).replace(SHORT_META, meta);
    let hash = short_hash(with_meta(header.hashed_json()).as_bytes()).to_string();
    let id = hash.replace("shortHash_", "co_");
    let json = with_meta(header.json());
    format!(r#"{{"action":"content","id":"{id}","header":{json},"priority":3,"new":{{}}}}"#)
}

pub(crate) async fn claimed_sessions(ground: &mut Ground) -> Result<()> {
    let count = ground.pick(150, 40);
    let sessions = wire::invented_sessions(&mut ground.rng, 100_000);
    let ids = ground.random_ids(count);
    ground.begin().await?;
    for id in ids {
        ground.flood([Frames::one(&wire::load(id, &sessions))]).await?;
    }
    Ok(())
}

/// Each message takes all of its address's rate, so only the number of addresses bounds them.
pub(crate) async fn claims_at_once(ground: &mut Ground) -> Result<()> {
    let sessions = wire::invented_sessions(&mut ground.rng, 100_000);
    let ids = ground.random_ids(ground.pick(200, 60));
    ground.begin().await?;
    let mut sending = JoinSet::new();
    for (number, id) in (2..).zip(ids) {
        let from = Ipv4Addr::new(127, 0, 1, number);
        let socket = ground.connect_as(from, "/", Reading::All).await?;
        let frames = Frames::one(&wire::load(id, &sessions));
        sending.spawn(async move { socket.send_frames(&frames).await });
    }
    // The server may close some of them.
    sending.join_all().await;
    Ok(())
}

/// Most of the memory is that of the decoded messages.
pub(crate) async fn large_contents(ground: &mut Ground) -> Result<()> {
    let author = Author::new(404);
    let header = author.open_map("large contents");
    let contents = signatures::wrong(&author, &header, 25_000, 25_000, 10);
    let frames: Arc<Frames> = Arc::new(contents.into_iter().map(wire::content).collect());
    ground.begin().await?;
    let mut sending = JoinSet::new();
    for number in 2..ground.pick(200, 60) {
        let from = Ipv4Addr::new(127, 0, 1, number);
        let socket = ground.connect_as(from, "/", Reading::All).await?;
        let frames = Arc::clone(&frames);
        sending.spawn(async move { socket.send_frames(&frames).await });
    }
    sending.join_all().await;
    Ok(())
}

pub(crate) async fn batch_ids(ground: &mut Ground) -> Result<()> {
    let batch = "b".repeat(LARGE_FRAME);
    let count = ground.pick(96, 32);
    let texts: Vec<_> = (0..count)
        .map(|_| wire::reconcile(&batch, ground.random_ids(1), WRONG_HASH))
        .map(|text| Frames::one(&text))
        .collect();
    ground.begin().await?;
    ground.flood(texts).await
}

pub(crate) async fn reconcile_entries(ground: &mut Ground) -> Result<()> {
    let count = ground.pick(100, 40);
    let frames = reconcile::reconciles(ground, count);
    ground.begin().await?;
    ground.flood([frames]).await
}

pub(crate) async fn held_ids(ground: &mut Ground) -> Result<()> {
    let count = ground.pick(15, 8);
    let frames = reconcile::held(ground, &Author::new(401), count);
    ground.begin().await?;
    ground.flood([frames]).await
}

pub(crate) async fn unread_loads(ground: &mut Ground) -> Result<()> {
    let author = Author::new(402);
    let mut log = Log::new(author.open_map("large"), author.agent_session(0));
    let contents = (0..20).map(|_| log.write(&author, vec![sized(LARGE_TRANSACTION)]));
    ground.upload(contents.collect()).await?;
    ground.begin().await?;
    for _ in 0..ground.pick(500, 300) {
        let socket = ground.connect_reading(Reading::Nothing).await?;
        socket.send(&wire::load(log.id(), "")).await?;
    }
    Ok(())
}

pub(crate) async fn wrong_signature_bytes(ground: &mut Ground) -> Result<()> {
    let author = Author::new(403);
    let count = ground.pick(260_000, 80_000);
    let contents = signatures::wrong(&author, &author.open_map("wrong"), count, 40_000, 10);
    let frames: Vec<Frames> =
        contents.into_iter().map(|content| Frames::one(&wire::content(content))).collect();
    ground.begin().await?;
    ground.flood(frames).await
}

/// What the server keeps of large frames must be gone when their senders are.
pub(crate) async fn memory_return(ground: &mut Ground) -> Result<()> {
    let count = ground.pick(96, 32);
    let batch = "b".repeat(LARGE_FRAME);
    let text = wire::reconcile(&batch, ground.random_ids(1), WRONG_HASH);
    ground.own_bounds.final_memory = Some(128 << 20);
    ground.begin().await?;
    for _ in 0..count {
        let socket = ground.connect().await?;
        socket.send(&text).await?;
    }
    ground.close_all().await;
    Ok(())
}
