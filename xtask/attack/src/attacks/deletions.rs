//! Tombstones, forged and valid.

use anyhow::Result;
use downbeat_core::delete;
use downbeat_protocol::{Content, SessionContent};

use crate::author::{Author, Log, MADE_AT, content, sized, wrong_signature};
use crate::ground::Ground;
use crate::socket::Frames;
use crate::wire;

/// Deletions of CoValues of others: with wrong signatures, and with valid ones of strangers.
pub(crate) async fn forged(ground: &mut Ground) -> Result<()> {
    let (owner, stranger) = (Author::new(700), Author::new(701));
    let mut contents = owner.basics();
    let mut logs = Vec::new();
    for number in 0..ground.pick(200, 50) {
        let header = owner.map(&format!("deleted {number}"));
        let mut log = Log::new(header, owner.session(1));
        contents.push(log.write(&owner, vec![sized(100)]));
        logs.push(log);
    }
    contents.extend(stranger.basics());
    ground.upload(contents).await?;
    let rounds = ground.pick(50, 10);
    let mut texts = Vec::new();
    for number in 0..rounds {
        for (log, index) in logs.iter().zip(0..) {
            let header = owner.map(&format!("deleted {index}"));
            let transaction = delete::transaction(log.id(), MADE_AT + 1);
            let unsigned = SessionContent {
                session: owner.delete_session(number),
                after: 0,
                transactions: vec![transaction.clone()],
                last_signature: wrong_signature(number),
            };
            texts.push(wire::content(content(log.id(), &header, vec![unsigned])));
            let mut by_stranger = Log::new(header, stranger.delete_session(number));
            texts.push(wire::content(by_stranger.append(&stranger, vec![transaction])));
        }
    }
    let frames = Frames::bursts(&texts, 100);
    ground.begin().await?;
    ground.flood(frames).await
}

/// Deletions of CoValues with many sessions and much content.
pub(crate) async fn large(ground: &mut Ground) -> Result<()> {
    let author = Author::new(702);
    let mut contents = author.basics();
    let mut deletions = Vec::new();
    let sessions = ground.pick(2_000, 500);
    for number in 0..ground.pick(10, 4) {
        let header = author.map(&format!("large {number}"));
        for session in 0..sessions {
            let mut log = Log::new(header.clone(), author.session(session));
            let run = log.append(&author, vec![sized(2_000)]).sessions;
            let header = (session == 0).then(|| header.clone());
            contents.push(Content { header, ..content(log.id(), &author.map(""), run) });
        }
        let mut log = Log::new(header, author.delete_session(number));
        let deletion = delete::transaction(log.id(), MADE_AT + 1);
        deletions.push(wire::content(log.append(&author, vec![deletion])));
    }
    ground.upload(contents).await?;
    ground.begin().await?;
    let socket = ground.connect().await?;
    for deletion in deletions {
        ground.may_store(deletion.len());
        socket.send(&deletion).await?;
    }
    Ok(())
}

/// Content of deleted CoValues, and LOADs that claim it.
pub(crate) async fn after_deletion(ground: &mut Ground) -> Result<()> {
    let author = Author::new(703);
    let mut contents = author.basics();
    let header = author.map("gone");
    let mut log = Log::new(header.clone(), author.session(1));
    contents.push(log.write(&author, vec![sized(100)]));
    let mut tombstone = Log::new(header.clone(), author.delete_session(1));
    let deletion = delete::transaction(log.id(), MADE_AT + 1);
    contents.push(tombstone.append(&author, vec![deletion]));
    ground.upload(contents).await?;
    let later: Vec<String> = (0..ground.pick(4_000, 1_000))
        .flat_map(|number| {
            let mut other = Log::new(header.clone(), author.session(10 + number));
            let content = wire::content(other.write(&author, vec![sized(3_000)]));
            let claim = format!(r#""{}":1"#, other.session());
            [content, wire::load(log.id(), &claim)]
        })
        .collect();
    let frames = Frames::bursts(&later, 100);
    ground.begin().await?;
    ground.flood(frames).await
}
