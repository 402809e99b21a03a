//! Messages about CoValues that the server does not have, and names that are no ids.

use anyhow::Result;
use downbeat_protocol::CoValueId;

use crate::attacks::reconcile;
use crate::author::{Author, Log, sized, wrong_signature};
use crate::ground::Ground;
use crate::socket::Frames;
use crate::wire;

/// The messages of one frame.
const PER_FRAME: usize = 1_000;

pub(crate) async fn unknown_loads(ground: &mut Ground) -> Result<()> {
    let frames = about_unknown(ground, |id| wire::load(id, ""));
    ground.begin().await?;
    ground.flood(frames).await
}

pub(crate) async fn unknown_knowns(ground: &mut Ground) -> Result<()> {
    let sessions = wire::invented_sessions(&mut ground.rng, 3);
    let frames = about_unknown(ground, |id| wire::known(id, &sessions));
    ground.begin().await?;
    ground.flood(frames).await
}

/// Corrections. Each asks for everything.
pub(crate) async fn unknown_corrections(ground: &mut Ground) -> Result<()> {
    let frames = about_unknown(ground, |id| {
        format!(
            r#"{{"action":"known","isCorrection":true,"id":"{id}","header":false,"sessions":{{}}}}"#
        )
    });
    ground.begin().await?;
    ground.flood(frames).await
}

/// One frame holds many messages.
fn about_unknown(ground: &mut Ground, message: impl Fn(CoValueId) -> String) -> Vec<Frames> {
    let count = ground.pick(500, 100);
    (0..count)
        .map(|_| {
            let ids = ground.random_ids(PER_FRAME);
            let texts: Vec<String> = ids.into_iter().map(&message).collect();
            Frames::one(&texts.join("\n"))
        })
        .collect()
}

/// RECONCILE messages with wrong hashes of stored CoValues: each answer is a known state.
pub(crate) async fn wrong_hashes(ground: &mut Ground) -> Result<()> {
    let author = Author::new(600);
    let mut ids = Vec::new();
    let mut contents = Vec::new();
    for number in 0..ground.pick(3_000, 500) {
        let header = author.open_map(&format!("stored {number}"));
        let mut log = Log::new(header, author.agent_session(0));
        contents.push(log.write(&author, vec![sized(20)]));
        ids.push(log.id());
    }
    ground.upload(contents).await?;
    let count = ground.pick(50, 10);
    let frames: Vec<Frames> = (0..count)
        .map(|number| {
            let ids = ids.iter().copied().cycle().take(reconcile::VALUES);
            Frames::one(&wire::reconcile(&format!("batch {number}"), ids, wire::WRONG_HASH))
        })
        .collect();
    ground.begin().await?;
    ground.flood(frames).await
}

/// Acknowledgements of batches that were never sent, and DONE.
pub(crate) async fn idle_talk(ground: &mut Ground) -> Result<()> {
    let id = wire::random_id(&mut ground.rng);
    let texts = [
        format!(r#"{{"action":"reconcile-ack","id":"{}"}}"#, "a".repeat(1_000)),
        format!(r#"{{"action":"done","id":"{id}"}}"#),
        wire::reconcile("empty", [], wire::WRONG_HASH),
    ];
    let frames: Vec<Frames> =
        (0..ground.pick(300, 60)).map(|_| texts.iter().cycle().take(PER_FRAME).collect()).collect();
    ground.begin().await?;
    ground.flood(frames).await
}

/// Names with line ends and terminal escapes, wherever a message has a text.
pub(crate) async fn forged_lines(ground: &mut Ground) -> Result<()> {
    const LINE: &str = r"\n2026-11-30TFORGED ERROR downbeat: \u001b[2J\u009b31m\r\u2028";
    let author = Author::new(601);
    let mut log = Log::new(author.open_map("named"), author.agent_session(0));
    let content = wire::content(log.write(&author, vec![sized(20)]));
    let session = log.session().as_str();
    let signature = wrong_signature(1);
    let id = log.id();
    let texts = [
        format!(r#"{{"action":"load","id":"{LINE}","header":false,"sessions":{{}}}}"#),
        format!(r#"{{"action":"load","id":"{}{LINE}","header":false}}"#, "x".repeat(2_000)),
        format!(
            r#"{{"action":"known","id":"co_z{LINE}","header":true,"sessions":{{"{LINE}":1}}}}"#
        ),
        format!(r#"{{"action":"{LINE}","id":"co_z1"}}"#),
        format!(r#"{{"action":"reconcile","id":"{LINE}","values":[["{LINE}","{LINE}"]]}}"#),
        content.replace(session, &format!("{session}{LINE}")),
        content.replace("comap", LINE),
        content.replace(id.as_str(), LINE),
        content.replace("signature_z", LINE),
        content.replace("trusting", LINE),
        format!(
            r#"{{"action":"content","id":"{id}","priority":3,"new":{{"{LINE}":{{"after":0,"newTransactions":[],"lastSignature":"{signature}"}}}}}}"#
        ),
        "{\"action\":\"load\n2026-11-30TFORGED\u{1b}[2J\"}".to_owned(),
    ];
    let rounds = ground.pick(20, 5);
    ground.begin().await?;
    for _ in 0..rounds {
        // The log has one line for each reason and connection.
        for text in &texts {
            let socket = ground.connect().await?;
            let _ = socket.send(text).await;
        }
    }
    // Texts of the handshake.
    for path in ["/?key=%0A2026-11-30TFORGED%1B%5B2J", "/%0A2026-11-30TFORGED"] {
        let _ = ground.connect_to(path).await;
    }
    Ok(())
}

/// Names of up to 1,024 bytes that are no ids.
pub(crate) async fn impossible_ids(ground: &mut Ground) -> Result<()> {
    let frames: Vec<Frames> = (0..ground.pick(200, 40))
        .map(|frame| {
            let texts = (0..PER_FRAME).map(|number| {
                let id = format!("{frame} {number} {}", "i".repeat(900));
                format!(r#"{{"action":"load","id":"{id}","header":false,"sessions":{{}}}}"#)
            });
            texts.collect()
        })
        .collect();
    ground.begin().await?;
    ground.flood(frames).await
}
