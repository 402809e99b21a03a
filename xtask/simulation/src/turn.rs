//! Carrying out a turn: reading the content that a peer is owed and cutting it into messages, as
//! the runtime does.

use downbeat_core::known_state;
use downbeat_protocol::{Content, Message, SessionContent};
use downbeat_sync::{ContentItem, Item, Progress, content_bytes};

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
                let (contents, bytes, rest) = read_pieces(store, &item, room, sizes.message);
                messages.extend(contents.into_iter().map(Message::Content));
                progress.extend(rest);
                room = room.saturating_sub(bytes);
            }
        }
    }
    (messages, progress)
}

/// Reads as much of an item as there is room for, and cuts it into messages. Tells how many bytes
/// that is, and what is left to do.
fn read_pieces(
    store: &ContentStore,
    item: &ContentItem,
    room: usize,
    message_bytes: u64,
) -> (Vec<Content>, usize, Option<Progress>) {
    let mut reached = item.have.clone();
    let mut pieces = Cutter { item, contents: Vec::new(), open: 0, message_bytes };
    let mut bytes = 0;
    let mut stalled = false;
    if room > 0 && item.until.is_empty() {
        pieces.start();
    }
    while bytes < room && !known_state::is_subset(&item.until, &reached) {
        let runs = store.read(item.id, &reached, &item.until, room - bytes);
        stalled = runs.is_empty();
        if stalled {
            break;
        }
        for run in runs {
            bytes += usize::try_from(content_bytes(&run)).unwrap_or(usize::MAX);
            reached.raise(&run.session, run.end());
            pieces.add(run);
        }
    }
    let mut contents = pieces.contents;
    let complete = room > 0 && known_state::is_subset(&item.until, &reached);
    let beyond = item.until.iter().any(|(session, count)| reached.get(session) > *count);
    let started = !complete && (item.continuation || !contents.is_empty());
    let is_sequence = contents.len() > 1 || !complete || !item.announced.is_empty();
    if let Some(first) = contents.first_mut()
        && is_sequence
        && !item.continuation
    {
        let mut expected = item.until.clone();
        known_state::merge_counts(&mut expected, &item.announced);
        first.expect_content_until = Some(expected);
    }
    let counts = item.until.iter().map(|(session, _)| (session.clone(), reached.get(session)));
    let rest = (!complete || beyond).then(|| Progress {
        id: item.id,
        epoch: item.epoch,
        header: !item.with_header || !contents.is_empty(),
        started,
        reached: counts.collect(),
        stalled,
    });
    (contents, bytes, rest)
}

/// Puts runs together into messages.
struct Cutter<'a> {
    item: &'a ContentItem,
    contents: Vec<Content>,
    /// Bytes of transactions in the last message.
    open: u64,
    message_bytes: u64,
}

impl Cutter<'_> {
    fn start(&mut self) -> &mut Content {
        self.open = 0;
        let first = self.contents.is_empty();
        self.contents.push(Content {
            id: self.item.id,
            header: (first && self.item.with_header).then(|| self.item.header.clone()),
            priority: self.item.header.priority(),
            sessions: Vec::new(),
            malformed: Vec::new(),
            expect_content_until: None,
        });
        let last = self.contents.len() - 1;
        &mut self.contents[last]
    }

    fn add(&mut self, run: SessionContent) {
        let bytes = content_bytes(&run);
        let fits = !self.contents.is_empty() && self.open + bytes <= self.message_bytes;
        let last = self.contents.last_mut().filter(|_| fits);
        let content = match last {
            Some(content) => content,
            None => self.start(),
        };
        match content.sessions.iter_mut().find(|before| before.session == run.session) {
            Some(before) => {
                before.transactions.extend(run.transactions);
                before.last_signature = run.last_signature;
            }
            None => content.sessions.push(run),
        }
        self.open += bytes;
    }
}
