//! Carrying out a turn: reading the content that a peer is owed, cutting it into messages, and
//! writing them.

use downbeat_core::known_state;
use downbeat_protocol::{Content, Message, SessionContent, SessionCounts, SessionId};
use downbeat_sync::{ContentItem, Item, Progress, content_bytes};
use downbeat_transport::{Sender, TransportError};
use tracing::error;

use crate::connection::Surroundings;
use crate::content::ContentStore;
use crate::failure::{RETRY, may_pass};
use crate::stats::add;

/// Bytes of transactions after which a turn ends: what a small edit waits for at most when it
/// arrives behind a large stream, and what a turn holds in memory.
const TURN_BYTES: usize = 256 << 10;

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
    for item in items {
        match item {
            Item::Message(message) => messages.push(message),
            Item::Content(item) => {
                let pieces = read_pieces(&around.content, item, room).await;
                let Pieces { contents, bytes, rest, failed: now } = pieces;
                failed |= now;
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

/// What became of a content item.
struct Pieces {
    contents: Vec<Content>,
    /// Bytes of transactions in them.
    bytes: usize,
    /// What is left to do, if anything is.
    rest: Option<Progress>,
    /// Whether storage failed, so that it is to be asked for the rest again.
    failed: bool,
}

/// Reads as much of an item as there is room for, and cuts it into messages.
async fn read_pieces(store: &ContentStore, item: ContentItem, room: usize) -> Pieces {
    let mut reached = item.have.clone();
    let mut pieces = Cutter { item: &item, contents: Vec::new(), open: 0 };
    let mut bytes = 0;
    let (mut stalled, mut failed) = (false, false);
    if room > 0 && item.until.is_empty() {
        pieces.start();
    }
    while bytes < room && !known_state::is_subset(&item.until, &reached) {
        let runs = match store.read(item.id, &reached, &item.until, room - bytes).await {
            Ok(runs) => runs,
            Err(error) => {
                error!(co_value = %item.id, %error, "content could not be read");
                failed = may_pass(&error);
                Vec::new()
            }
        };
        if runs.is_empty() {
            stalled = !failed;
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
    // More is sent than was asked for where the signature at the end is that of more.
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
    let rest = (!complete || beyond).then(|| Progress {
        id: item.id,
        epoch: item.epoch,
        header: !item.with_header || !contents.is_empty(),
        started,
        reached: reached_of(&item.until, &reached),
        stalled,
    });
    Pieces { contents, bytes, rest, failed }
}

/// The counts of the sessions that are asked for.
fn reached_of(until: &SessionCounts, reached: &SessionCounts) -> Vec<(SessionId, u64)> {
    until.iter().map(|(session, _)| (session.clone(), reached.get(session))).collect()
}

/// Puts runs together into messages.
struct Cutter<'a> {
    item: &'a ContentItem,
    contents: Vec<Content>,
    /// Bytes of transactions in the last message.
    open: u64,
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
        let fits = !self.contents.is_empty() && self.open + bytes <= MESSAGE_BYTES;
        let last = self.contents.last_mut().filter(|_| fits);
        let content = match last {
            Some(content) => content,
            None => self.start(),
        };
        // Runs that follow each other become one, so that many small ones are not many messages.
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
