//! Content in the wrong order, with gaps, twice, or that depends on other content in strange ways.

use anyhow::Result;
use downbeat_crypto::header_id;
use downbeat_protocol::{CoValueId, Content, Header, SessionContent};

use crate::attacks::memory::only_header;
use crate::author::{Author, Log, content, set, sized, wrong_signature};
use crate::ground::Ground;
use crate::socket::Frames;
use crate::wire;

/// The messages of one burst.
const BURST: usize = 500;

/// Content without a header, and content after a gap: each asks for a correction.
pub(crate) async fn corrections(ground: &mut Ground) -> Result<()> {
    let author = Author::new(800);
    let mut known = Log::new(author.open_map("known"), author.agent_session(0));
    ground.upload(vec![known.write(&author, vec![sized(100)])]).await?;
    let header = author.open_map("unknown");
    let run = |after| SessionContent {
        session: author.agent_session(0),
        after,
        transactions: vec![sized(20)],
        last_signature: wrong_signature(after),
    };
    let texts: Vec<String> = (0..ground.pick(100_000, 20_000))
        .map(|number| match number % 2 {
            0 => content(wire::random_id(&mut ground.rng), &header, vec![run(0)]),
            _ => content(known.id(), &header, vec![run(1_000 + number)]),
        })
        .map(wire::content)
        .collect();
    let frames = Frames::bursts(&texts, BURST);
    ground.begin().await?;
    ground.flood(frames).await
}

/// A log whose small pieces arrive from the last to the first, several times.
pub(crate) async fn backwards(ground: &mut Ground) -> Result<()> {
    let author = Author::new(801);
    let mut log = Log::new(author.open_map("backwards"), author.agent_session(0));
    let count = ground.pick(20_000, 4_000);
    let pieces: Vec<String> =
        (0..count).map(|_| wire::content(log.write(&author, vec![sized(20)]))).rev().collect();
    let frames: Vec<Frames> = (0..3).flat_map(|_| Frames::bursts(&pieces, BURST)).collect();
    ground.may_store(pieces.iter().map(String::len).sum());
    ground.begin().await?;
    ground.flood(frames).await
}

/// The same valid content again and again.
pub(crate) async fn replays(ground: &mut Ground) -> Result<()> {
    let author = Author::new(802);
    let mut log = Log::new(author.open_map("replayed"), author.agent_session(0));
    let pieces: Vec<Content> = (0..100).map(|_| log.write(&author, vec![sized(20_000)])).collect();
    let texts: Vec<String> = pieces.iter().cloned().map(wire::content).collect();
    ground.upload(pieces).await?;
    let count = ground.pick(400, 80);
    ground.begin().await?;
    for _ in 0..count {
        ground.flood([texts.iter().collect()]).await?;
        if ground.is_over() {
            break;
        }
    }
    Ok(())
}

/// Groups that are members of each other, in circles.
pub(crate) async fn circles(ground: &mut Ground) -> Result<()> {
    let count = ground.pick(5_000, 1_000);
    linked_groups(ground, 803, count, |number| {
        vec![number / 50 * 50 + (number + 1) % 50, number / 2]
    })
    .await
}

/// A chain of groups, each with the next one as its parent, from the lowest to the highest.
pub(crate) async fn chain(ground: &mut Ground) -> Result<()> {
    let count = ground.pick(5_000, 1_000);
    linked_groups(ground, 804, count, |number| vec![number + 1]).await
}

/// Each group with the same many parents.
pub(crate) async fn lattice(ground: &mut Ground) -> Result<()> {
    let count = ground.pick(1_000, 300);
    linked_groups(ground, 805, count, |number| {
        let layer = number / 30 * 30 + 30;
        (layer..layer + 30).collect()
    })
    .await
}

/// Groups whose parents are others of them, and then a CoValue of the first group.
async fn linked_groups(
    ground: &mut Ground,
    seed: u64,
    count: usize,
    parents: fn(usize) -> Vec<usize>,
) -> Result<()> {
    let author = Author::new(seed);
    let headers: Vec<Header> =
        (0..count).map(|number| author.group(&format!("linked {number}"))).collect();
    let ids: Vec<CoValueId> = headers.iter().map(header_id).collect();
    let texts: Vec<String> = headers
        .into_iter()
        .enumerate()
        .map(|(number, header)| {
            let mut log = Log::new(header, author.agent_session(0));
            let agent = log.session().owner().as_str().to_owned();
            let mut transactions = vec![set(&agent, "admin")];
            for parent in parents(number).into_iter().filter_map(|parent| ids.get(parent)) {
                transactions.push(set(&format!("parent_{parent}"), "extend"));
            }
            wire::content(log.write(&author, transactions))
        })
        .collect();
    ground.may_store(texts.iter().map(String::len).sum());
    let frames = Frames::bursts(&texts, BURST);
    ground.begin().await?;
    ground.flood(frames).await
}

/// Headers whose meta is nested deeply, or has many members.
pub(crate) async fn nested_headers(ground: &mut Ground) -> Result<()> {
    let mut texts = Vec::new();
    for number in 0..ground.pick(400, 100) {
        let depth = [120, 126, 127, 5_000][number % 4];
        let nested = format!(r#"{{"a":{}0{}}}"#, "[".repeat(depth), "]".repeat(depth));
        texts.push(only_header(&nested, &format!("nested {number}")));
        let members: Vec<String> = (0..2_000).map(|n| format!(r#""m{n:04}":{n}"#)).collect();
        let meta = format!("{{{}}}", members.join(","));
        texts.push(only_header(&meta, &format!("members {number}")));
    }
    ground.may_store(texts.iter().map(String::len).sum());
    let frames = Frames::bursts(&texts, 20);
    ground.begin().await?;
    ground.flood(frames).await
}

/// The first pieces of large CoValues whose rest never comes.
pub(crate) async fn unfinished(ground: &mut Ground) -> Result<()> {
    let author = Author::new(806);
    let count = ground.pick(2_000, 500);
    let promised = format!("{{{}}}", wire::invented_sessions(&mut ground.rng, count));
    let texts: Vec<String> = (0..ground.pick(2_000, 400))
        .map(|number| {
            let header = author.open_map(&format!("unfinished {number}"));
            let mut log = Log::new(header, author.agent_session(0));
            let text = wire::content(log.write(&author, vec![sized(100)]));
            wire::with_member(&text, "expectContentUntil", &promised)
        })
        .collect();
    ground.may_store(2_000 * texts.len());
    let frames = Frames::bursts(&texts, 10);
    ground.begin().await?;
    ground.flood(frames).await
}

/// Many tiny CoValues with valid content: every one is stored.
pub(crate) async fn tiny_co_values(ground: &mut Ground) -> Result<()> {
    let author = Author::new(807);
    let texts: Vec<String> = (0..ground.pick(60_000, 10_000))
        .map(|number| {
            let header = author.open_map(&format!("tiny {number}"));
            let mut log = Log::new(header, author.agent_session(0));
            wire::content(log.write(&author, vec![sized(1)]))
        })
        .collect();
    ground.may_store(texts.iter().map(String::len).sum());
    let frames = Frames::bursts(&texts, BURST);
    ground.begin().await?;
    ground.flood(frames).await
}
