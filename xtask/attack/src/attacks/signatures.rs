//! Content with wrong signatures.

use std::time::Duration;

use anyhow::Result;
use downbeat_protocol::{Content, Header, SessionContent};

use crate::author::{Author, Log, content, set, sized, wrong_signature};
use crate::ground::Ground;
use crate::socket::Frames;
use crate::wire;

/// The log that is forked has this many transactions.
const FORKED_TRANSACTIONS: usize = 30;

/// The pause between two forks.
const FORK_PAUSE: Duration = Duration::from_millis(10);

/// The size of each of them.
const FORKED_BYTES: usize = 900_000;

pub(crate) async fn wrong_signatures(ground: &mut Ground) -> Result<()> {
    let author = Author::new(300);
    let header = author.open_map("wrong");
    let count = ground.pick(20_000, 10_000);
    let frames: Frames =
        wrong(&author, &header, count, 10_000, 10).into_iter().map(wire::content).collect();
    ground.begin().await?;
    ground.flood([frames]).await
}

/// Content of many sessions with wrong signatures.
pub(crate) fn wrong(
    author: &Author,
    header: &Header,
    sessions: usize,
    per_message: usize,
    bytes: usize,
) -> Vec<Content> {
    let id = Log::new(header.clone(), author.agent_session(0)).id();
    let runs = (0..sessions as u64).map(|number| SessionContent {
        session: author.agent_session(number),
        after: 0,
        transactions: vec![sized(bytes)],
        last_signature: wrong_signature(number),
    });
    let runs: Vec<_> = runs.collect();
    let with_header = |runs: &[SessionContent]| {
        let header = header.clone();
        Content { header: Some(header.clone()), ..content(id, &header, runs.to_vec()) }
    };
    runs.chunks(per_message).map(with_header).collect()
}

pub(crate) async fn repeated_fork(ground: &mut Ground) -> Result<()> {
    let author = Author::new(301);
    let mut log = Log::new(author.open_map("forked"), author.agent_session(0));
    let mut contents: Vec<_> =
        (1..FORKED_TRANSACTIONS).map(|_| log.write(&author, vec![sized(FORKED_BYTES)])).collect();
    let base = log.clone();
    contents.push(log.append(&author, vec![sized(FORKED_BYTES)]));
    let forks = (0..ground.pick(2_000, 500)).map(|number: u64| {
        let transaction = set("fork", &number.to_string());
        wire::content(base.clone().append(&author, vec![transaction]))
    });
    let forks: Vec<Frames> = forks.map(|fork| Frames::one(&fork)).collect();
    ground.upload(contents).await?;
    ground.own_bounds.p50 = Some(Duration::from_millis(25));
    // Its author gets the log after the first, second, 16th and 256th fork.
    ground.own_bounds.received = Some(4 * (FORKED_TRANSACTIONS * FORKED_BYTES * 11 / 10) as u64);
    ground.begin().await?;
    for fork in forks {
        ground.flood([fork]).await?;
        // Forks that arrive during the check of another one are dropped.
        ground.pause(FORK_PAUSE).await?;
    }
    Ok(())
}

/// One wrong signature in each of many CoValues, because the server ignores a CoValue from a
/// connection after a wrong signature.
pub(crate) async fn everywhere(ground: &mut Ground) -> Result<()> {
    let author = Author::new(302);
    let texts: Vec<String> = (0..ground.pick(40_000, 10_000))
        .flat_map(|number| {
            let header = author.open_map(&format!("wrong {number}"));
            wrong(&author, &header, 1, 1, 500)
        })
        .map(wire::content)
        .collect();
    let frames = Frames::bursts(&texts, 500);
    ground.may_store(texts.len() * 400);
    ground.begin().await?;
    ground.flood(frames).await
}
