//! Carrying out a turn: reading the content that a peer is owed, and writing it in messages.

use std::collections::VecDeque;
use std::iter;

use downbeat_protocol::{Message, SessionContent};
use downbeat_storage::StorageError;
use downbeat_sync::{ContentItem, Cutter, Item, Progress, Wanted};
use downbeat_transport::{Sender, TransportError};

use crate::connection::Surroundings;
use crate::content::ContentStore;
use crate::failure::{RETRY, may_pass, reading_failed};
use crate::stats::add;

/// Bytes of transactions after which a turn ends: what a small edit waits for at most when it
/// arrives behind a large stream, and what a turn holds in memory.
const TURN_BYTES: usize = 256 << 10;

/// Content items that are read together. Handing them to a thread that reads costs little for each
/// of so many.
const READ_AHEAD: usize = 32;

/// Bytes of transactions in one message, beyond which a new one is started (reference: 100 KiB; a
/// single run may be larger).
const MESSAGE_BYTES: u64 = 100 << 10;

/// Writes a turn to a peer, and tells how far the content got where it did not get to its end.
pub(crate) async fn write_turn(
    sender: &mut dyn Sender,
    around: &Surroundings,
    items: Vec<Item>,
) -> Result<Vec<Progress>, TransportError> {
    let mut progress = Vec::new();
    let mut failed = false;
    let mut messages = Vec::new();
    let mut unsent = 0;
    let mut room = TURN_BYTES;
    let mut items = VecDeque::from(items);
    // Answers for the next content items.
    let mut ahead = VecDeque::new();
    while let Some(item) = items.pop_front() {
        match item {
            Item::Message(message) => messages.push(message),
            Item::Content(item) => {
                if ahead.is_empty() && room > 0 {
                    ahead = read_ahead(&around.content, &item, &items, room).await;
                }
                let mut cutter = Cutter::new(item, room, MESSAGE_BYTES);
                failed |= cut(around, &mut cutter, ahead.pop_front()).await;
                let bytes = cutter.bytes();
                let (contents, rest) = cutter.finish();
                if failed {
                    // What follows may depend on this, and stays behind it.
                    room = 0;
                }
                messages.extend(contents.into_iter().map(Message::Content));
                progress.extend(rest);
                room = room.saturating_sub(bytes);
                unsent += bytes;
            }
        }
        if unsent as u64 >= MESSAGE_BYTES {
            let bytes = sender.send(&messages).await?;
            around.counters.sent(&messages, bytes);
            messages.clear();
            unsent = 0;
        }
    }
    let bytes = sender.send(&messages).await?;
    around.counters.sent(&messages, bytes);
    if failed {
        add(&around.counters.storage.read_retries, 1);
        // The machine gives the rest again at once, and storage is not well yet.
        tokio::time::sleep(RETRY).await;
    }
    Ok(progress)
}

/// What the first reading of a content item gave.
type FirstRead = Result<Vec<SessionContent>, StorageError>;

/// Reads for an item and those that come after it together. Nothing, if it is the only one; it is
/// read by itself then.
async fn read_ahead(
    store: &ContentStore,
    item: &ContentItem,
    others: &VecDeque<Item>,
    room: usize,
) -> VecDeque<FirstRead> {
    let others = others.iter().filter_map(|item| match item {
        Item::Content(item) => Some(item),
        Item::Message(_) => None,
    });
    let items = iter::once(item).chain(others).take(READ_AHEAD);
    let wanted = items.map(|item| {
        let ContentItem { id, have, until, .. } = item;
        Wanted { id: *id, have, until, max_bytes: room }
    });
    let wanted: Vec<_> = wanted.collect();
    if wanted.len() == 1 {
        return VecDeque::new();
    }
    store.read_many(&wanted, room).await.into()
}

/// Reads as much of an item as there is room for, from what was read ahead on. Tells whether storage
/// failed, so that it is to be asked for the rest again.
async fn cut(around: &Surroundings, cutter: &mut Cutter, mut first: Option<FirstRead>) -> bool {
    let mut failed = false;
    while let Some(wanted) = cutter.next_read() {
        let id = wanted.id;
        let read = match first.take() {
            Some(read) => read,
            None => around.content.read(&wanted).await,
        };
        match read {
            Ok(runs) => cutter.add(runs),
            Err(error) => {
                reading_failed("content could not be read", Some(id), &error, &around.counters);
                failed = may_pass(&error);
                cutter.fail(failed);
            }
        }
    }
    failed
}
