//! Carrying out a turn: reading the content that a peer is owed, cutting it into messages, and
//! writing them.

use std::collections::VecDeque;
use std::iter;

use downbeat_core::{dependencies, known_state};
use downbeat_protocol::{Content, Message, SessionContent, SessionCounts, SessionId};
use downbeat_storage::StorageError;
use downbeat_sync::{ContentItem, Item, Progress, content_bytes};
use downbeat_transport::{Sender, TransportError};
use tracing::error;

use crate::connection::Surroundings;
use crate::content::{ContentStore, Request};
use crate::failure::{RETRY, may_pass};
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
                let first = ahead.pop_front();
                let pieces = read_pieces(&around.content, item, first, room).await;
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
    let requests: Vec<_> =
        items.map(|item| Request { id: item.id, have: &item.have, until: &item.until }).collect();
    if requests.len() == 1 {
        return VecDeque::new();
    }
    store.read_many(&requests, room).await.into()
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

/// Reads as much of an item as there is room for, from what was read ahead on, and cuts it into
/// messages.
async fn read_pieces(
    store: &ContentStore,
    item: ContentItem,
    mut first: Option<FirstRead>,
    room: usize,
) -> Pieces {
    let mut reached = item.have.clone();
    // What is read from: sessions of which no more is asked for are passed over.
    let mut have = item.have.clone();
    let mut pieces = Cutter { item: &item, contents: Vec::new(), open: 0 };
    let mut bytes = 0;
    let (mut stalled, mut failed) = (false, false);
    if room > 0 && item.until.is_empty() {
        pieces.start();
    }
    while bytes < room && !stalled && !known_state::is_subset(&item.until, &reached) {
        let read = match first.take() {
            Some(read) => read,
            None => store.read(item.id, &have, &item.until, room - bytes).await,
        };
        let runs = match read {
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
            let until = item.until.get(&run.session);
            if run.after >= until {
                // What it needs may not have been sent.
                have.set(&run.session, u64::MAX);
                continue;
            }
            if names_more(&item, &run, until) {
                // The machine has heard of it when it was verified, and gives it again with what
                // it needs.
                stalled = true;
                have.set(&run.session, u64::MAX);
                continue;
            }
            bytes += usize::try_from(content_bytes(&run)).unwrap_or(usize::MAX);
            reached.raise(&run.session, run.end());
            have.raise(&run.session, run.end());
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

/// Whether a run of a group goes on beyond what is asked for (it ends where there is a signature)
/// with members or parents that the peer has not been sent.
fn names_more(item: &ContentItem, run: &SessionContent, until: u64) -> bool {
    if run.end() <= until || !item.header.is_group() {
        return false;
    }
    let asked = usize::try_from(until.saturating_sub(run.after)).unwrap_or(usize::MAX);
    let beyond = run.transactions.get(asked..).unwrap_or_default();
    let asked = run.transactions.get(..asked).unwrap_or(&run.transactions);
    let known = dependencies::of_group_transactions(asked);
    let named = dependencies::of_group_transactions(beyond);
    named.iter().any(|id| *id != item.id && !known.contains(id))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use downbeat_protocol::{CoValueId, Header, Owner, Ruleset, Signature, Transaction};
    use downbeat_storage::{MemoryStorage, Storage, Write};

    use super::*;

    const MEMBER: &str = "co_z2";

    fn session(name: &str) -> SessionId {
        SessionId::parse(&format!("co_z1_session_z{name}")).unwrap()
    }

    fn set(key: &str) -> Transaction {
        Transaction::trusting(&format!(r#"[{{"key":"{key}","op":"set","value":"x"}}]"#), 0, None)
    }

    fn run(name: &str, after: u64, transactions: Vec<Transaction>) -> SessionContent {
        let last_signature = Signature::from_bytes(&[0; 64]);
        SessionContent { session: session(name), after, transactions, last_signature }
    }

    /// What is sent of a group with these runs to a peer that is to have this much of it.
    async fn sent(
        runs: Vec<SessionContent>,
        until: &[(&str, u64)],
    ) -> (Vec<(SessionId, u64)>, bool) {
        let initial_admin = Owner::Account(CoValueId::parse("co_z1").unwrap());
        let header = Header::builder("comap", Ruleset::Group { initial_admin }).build().unwrap();
        let (id, storage) = (CoValueId::parse("co_z3").unwrap(), MemoryStorage::new());
        for run in runs {
            let write = Write::Append { id, header: Some(header.clone()), sessions: vec![run] };
            storage.append(vec![write]).await.unwrap();
        }
        let item = ContentItem {
            id,
            header,
            with_header: true,
            have: SessionCounts::new(),
            until: until.iter().map(|(name, count)| (session(name), *count)).collect(),
            announced: SessionCounts::new(),
            continuation: false,
            epoch: 0,
        };
        let pieces =
            read_pieces(&ContentStore::new(Arc::new(storage), 0), item, None, TURN_BYTES).await;
        let runs = pieces.contents.into_iter().flat_map(|content| content.sessions);
        let stalled = pieces.rest.is_some_and(|rest| rest.stalled);
        (runs.map(|run| (run.session.clone(), run.end())).collect(), stalled)
    }

    #[tokio::test]
    async fn sessions_that_came_since_are_left_for_the_next_turn() {
        let long = vec![set("k"); 10];
        let runs = vec![run("a", 0, long.clone()), run("b", 0, long)];
        assert_eq!(sent(runs.clone(), &[("b", 10)]).await, (vec![(session("b"), 10)], false));
        assert_eq!(sent(runs, &[("a", 10)]).await, (vec![(session("a"), 10)], false));
    }

    #[tokio::test]
    async fn more_of_a_session_is_sent_if_it_needs_nothing_more() {
        let more = vec![run("a", 0, vec![set(MEMBER)]), run("a", 1, vec![set("k"), set(MEMBER)])];
        assert_eq!(sent(more, &[("a", 1)]).await, (vec![(session("a"), 3)], false));
    }

    #[tokio::test]
    async fn members_who_were_added_since_wait_until_they_are_sent_first() {
        let runs = vec![
            run("a", 0, vec![set("k")]),
            run("a", 1, vec![set(MEMBER)]),
            run("b", 0, vec![set("k")]),
        ];
        assert_eq!(sent(runs, &[("a", 1), ("b", 1)]).await, (vec![(session("b"), 1)], true));
    }
}
