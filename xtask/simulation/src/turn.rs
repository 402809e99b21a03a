//! Carrying out a turn: reading the content that a peer is owed.

use downbeat_protocol::Message;
use downbeat_sync::{Cutter, Item, Progress};

use crate::content::ContentStore;

/// The bounds of turns and messages, in bytes of transactions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// After which a turn ends.
    pub turn: usize,
    /// Beyond which a new message is started.
    pub message: u64,
}

/// What is to be sent, and how far the content got where it did not get to its end.
pub(crate) fn write(
    store: &ContentStore,
    items: Vec<Item>,
    sizes: Sizes,
) -> (Vec<Message>, Vec<Progress>) {
    let mut progress = Vec::new();
    let mut messages = Vec::new();
    let mut room = sizes.turn;
    for item in items {
        match item {
            Item::Message(message) => messages.push(message),
            Item::Content(item) => {
                let mut cutter = Cutter::new(item, room, sizes.message);
                while let Some(wanted) = cutter.next_read() {
                    let runs = store.read(&wanted);
                    cutter.add(runs);
                }
                room = room.saturating_sub(cutter.bytes());
                let (contents, rest) = cutter.finish();
                messages.extend(contents.into_iter().map(Message::Content));
                progress.extend(rest);
            }
        }
    }
    (messages, progress)
}
