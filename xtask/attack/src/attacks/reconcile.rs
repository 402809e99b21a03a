//! RECONCILE messages, and other names of CoValues that do not exist.

use std::fmt::Write as _;

use anyhow::Result;
use downbeat_protocol::Transaction;

use crate::author::{Author, Log, MADE_AT};
use crate::ground::Ground;
use crate::socket::Frames;
use crate::wire::{self, WRONG_HASH};

/// The most CoValues that the server accepts in one RECONCILE.
pub(crate) const VALUES: usize = 10_000;

/// The ids that one held group names: a message of 1 MB.
const PARENTS: usize = 14_000;

pub(crate) async fn flood(ground: &mut Ground) -> Result<()> {
    let count = ground.pick(40, 15);
    let messages = reconciles(ground, count);
    ground.begin().await?;
    ground.flood([messages]).await
}

/// RECONCILE messages with unknown ids.
pub(crate) fn reconciles(ground: &mut Ground, count: usize) -> Frames {
    let texts = (0..count).map(|number| {
        let ids = ground.random_ids(VALUES);
        wire::reconcile(&format!("batch {number}"), ids, WRONG_HASH)
    });
    texts.collect()
}

pub(crate) async fn held_groups(ground: &mut Ground) -> Result<()> {
    let groups = ground.pick(16, 6);
    let mut messages = Vec::new();
    for connection in 0..3 {
        let author = Author::new(100 + connection);
        messages.push(held(ground, &author, groups));
    }
    ground.begin().await?;
    for frames in messages {
        let socket = ground.connect().await?;
        socket.send_frames(&frames).await?;
    }
    Ok(())
}

/// Groups that wait for unknown parents.
pub(crate) fn held(ground: &mut Ground, author: &Author, count: usize) -> Frames {
    let texts = (0..count).map(|number| {
        let mut changes = String::from("[");
        for (index, id) in ground.random_ids(PARENTS).into_iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ =
                write!(changes, r#"{comma}{{"key":"parent_{id}","op":"set","value":"extend"}}"#);
        }
        changes.push(']');
        let header = author.group(&format!("held {number}"));
        let mut log = Log::new(header, author.agent_session(1));
        let transaction = Transaction::trusting(&changes, MADE_AT, None);
        wire::content(log.write(author, vec![transaction]))
    });
    texts.collect()
}
