//! Carrying out a turn: reading the content that a peer lacks, and cutting it into messages.

use std::collections::VecDeque;
use std::iter;

use downbeat_protocol::{CHUNK_LEN, CoValueId, Message, SessionContent};
use downbeat_storage::StorageError;
use downbeat_sync::{ContentItem, Item, Progress};

use crate::bugs::DriverBug;
use crate::chunker::{ContentChunker, ReadRequest};
use crate::content::ContentStore;
use crate::failure::is_transient;

/// Content items that are read with one call to storage. Handing 32 of them to a reader thread
/// costs little for each one.
const READ_AHEAD: usize = 32;

/// How much content a turn and its messages may have, in bytes of transactions.
#[derive(Debug, Clone, Copy)]
pub struct TurnLimits {
    /// A turn ends when it has read this much. It bounds how long a small edit waits behind a large
    /// stream, and the memory that a turn takes.
    pub turn_bytes: usize,
    /// A new message begins when one has this much. A single run may be larger.
    pub message_bytes: u64,
}

impl Default for TurnLimits {
    /// 256 KiB for a turn, and 100 KiB for a message, as in the reference implementation.
    fn default() -> Self {
        Self { turn_bytes: 256 << 10, message_bytes: CHUNK_LEN }
    }
}

/// A turn that is being carried out. Write the messages of [`Self::next`] to the peer until there
/// are no more, and then report what [`Self::finish`] returns.
///
/// ```
/// # use std::sync::Arc;
/// # use downbeat_driver::{ContentStore, Turn, TurnLimits, block_on};
/// # use downbeat_storage::MemoryStorage;
/// # let content = ContentStore::new(Arc::new(MemoryStorage::new()), 0);
/// # let (items, mut written) = (Vec::new(), Vec::new());
/// let mut turn = Turn::new(items, TurnLimits::default());
/// while let Some(messages) = block_on(turn.next(&content)) {
///     written.extend_from_slice(messages);
/// }
/// let report = turn.finish();
/// assert!(written.is_empty() && report.progress.is_empty(), "there was nothing to write");
/// ```
#[derive(Debug)]
pub struct Turn {
    /// See [`TurnLimits::message_bytes`].
    message_bytes: u64,
    /// The items to carry out, and behind them the content items of the messages.
    items: VecDeque<Item>,
    /// How many content items the messages are of.
    sent: u32,
    /// Bytes of transactions that may still be read.
    room: usize,
    /// The first reads of the next content items.
    ahead: VecDeque<FirstRead>,
    messages: Vec<Message>,
    /// The length of the report's progress before the messages.
    progress_before: u32,
    report: TurnReport,
}

/// The result of a turn.
#[derive(Debug, Default)]
pub struct TurnReport {
    /// Goes to the machine: the content items that were not sent whole, or beyond their end.
    pub progress: Vec<Progress>,
    /// Whether storage failed for now. The machine asks for the rest at once, so the runtime has
    /// to pause before it reports the turn.
    pub is_interrupted: bool,
    /// What could not be read.
    pub failures: Vec<(CoValueId, StorageError)>,
}

type FirstRead = Result<Vec<SessionContent>, StorageError>;

impl Turn {
    /// Begins with the items of a turn.
    pub fn new(items: Vec<Item>, limits: TurnLimits) -> Self {
        Self {
            message_bytes: limits.message_bytes,
            items: items.into(),
            sent: 0,
            room: limits.turn_bytes,
            ahead: VecDeque::new(),
            messages: Vec::new(),
            progress_before: 0,
            report: TurnReport::default(),
        }
    }

    /// Reads on, and returns the next messages for the peer: about as much as fits into one content
    /// message. `None` at the end.
    pub async fn next(&mut self, content: &ContentStore) -> Option<&[Message]> {
        self.messages.clear();
        self.items.truncate(self.left());
        self.sent = 0;
        self.progress_before = u32::try_from(self.report.progress.len()).unwrap_or(u32::MAX);
        let mut unsent = 0;
        while unsent < self.message_bytes
            && self.left() > 0
            && let Some(item) = self.items.pop_front()
        {
            match item {
                Item::Message(message) => self.messages.push(message),
                Item::Content(_) if self.skips_dependency(content) => {}
                Item::Content(item) => unsent += self.add_content(item, content).await as u64,
            }
        }
        (!self.messages.is_empty()).then_some(&self.messages)
    }

    /// Takes back the content of the messages that [`Self::next`] has just returned, because there
    /// is no room for it at the peer's side. The machine gives it again in a later turn. Returns
    /// the other messages. The rest of the turn has no content.
    pub fn put_back(&mut self) -> &[Message] {
        self.messages.retain(|message| !matches!(message, Message::Content(_)));
        self.report.progress.truncate(self.progress_before as usize);
        for item in self.items.drain(self.left()..) {
            if let Item::Content(item) = item {
                let (_, unsent) = ContentChunker::new(item, 0, 0).finish();
                self.report.progress.extend(unsent);
            }
        }
        self.sent = 0;
        self.ahead.clear();
        self.room = 0;
        &self.messages
    }

    /// Ends the turn.
    pub fn finish(self) -> TurnReport {
        self.report
    }

    /// Adds the messages of a content item. Returns the bytes of transactions in them.
    async fn add_content(&mut self, item: ContentItem, content: &ContentStore) -> usize {
        if self.ahead.is_empty() && self.room > 0 {
            self.ahead = self.read_ahead(&item, content).await;
        }
        let mut first = self.ahead.pop_front();
        let mut chunker = ContentChunker::new(item, self.room, self.message_bytes);
        while let Some(request) = chunker.next_read() {
            let id = request.id;
            let read = match first.take() {
                Some(read) => read,
                None => content.read(&request).await,
            };
            match read {
                Ok(runs) => chunker.add(runs),
                Err(error) => {
                    let for_now = is_transient(&error);
                    self.report.is_interrupted |= for_now;
                    self.report.failures.push((id, error));
                    chunker.fail(for_now);
                }
            }
        }
        let bytes = chunker.bytes();
        let ends_turn = self.report.is_interrupted || chunker.is_outdated();
        let (contents, rest, item) = chunker.finish_with_item();
        // Where it was taken from, so that nothing is allocated.
        self.items.push_back(Item::Content(item));
        self.sent += 1;
        self.messages.extend(contents.into_iter().map(Message::Content));
        self.report.progress.extend(rest);
        // Later items stay behind too, because they may depend on this one.
        self.room = if ends_turn { 0 } else { self.room.saturating_sub(bytes) };
        bytes
    }

    /// Reads for an item and those that come after it with one call. Reads nothing if there is only
    /// one item, which is then read by itself.
    async fn read_ahead(&self, item: &ContentItem, content: &ContentStore) -> VecDeque<FirstRead> {
        let others = self.next_items().filter_map(|item| match item {
            Item::Content(item) => Some(item),
            Item::Message(_) => None,
        });
        let items = iter::once(item).chain(others).take(READ_AHEAD);
        let requests = items.map(|item| {
            let ContentItem { id, have, until, .. } = item;
            ReadRequest { id: *id, have, until, max_bytes: self.room }
        });
        let requests: Vec<_> = requests.collect();
        if requests.len() == 1 {
            return VecDeque::new();
        }
        content.read_many(&requests, self.room).await.into()
    }

    /// Whether an injected bug drops an item before others.
    fn skips_dependency(&self, content: &ContentStore) -> bool {
        content.bugs.has(DriverBug::SkipDependency)
            && self.next_items().any(|item| matches!(item, Item::Content(_)))
    }

    /// The items that are not carried out.
    fn next_items(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().take(self.left())
    }

    /// The number of items that are not carried out.
    fn left(&self) -> usize {
        self.items.len() - self.sent as usize
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use downbeat_protocol::{
        Header, Owner, Ruleset, SessionCounts, SessionId, Signature, Transaction,
    };
    use downbeat_storage::MemoryStorage;
    use downbeat_sync::StoreJob;

    use super::*;
    use crate::block_on;

    const TEXT: &str = r#"[{"key":"k","op":"set","value":"v"}]"#;
    const MEMBER: &str = r#"[{"key":"co_z9","op":"set","value":"reader"}]"#;

    /// Puts a CoValue with one session into memory, and returns the item of a peer that should get
    /// the first transaction.
    fn item(content: &ContentStore, id: &str, ruleset: Ruleset, log: &[&str]) -> Item {
        let id = CoValueId::parse(id).unwrap();
        let session = SessionId::parse("co_z1_session_z1").unwrap();
        let header = Header::builder("comap", ruleset).build().unwrap();
        content.add(&StoreJob {
            id,
            header: Some(header.clone()),
            sessions: vec![SessionContent {
                session: session.clone(),
                after: 0,
                transactions: log.iter().map(|text| Transaction::trusting(text, 0, None)).collect(),
                last_signature: Signature::from_bytes(&[0; 64]),
            }],
            delete: false,
            author: None,
        });
        Item::Content(ContentItem {
            id,
            header,
            with_header: true,
            have: SessionCounts::new(),
            until: SessionCounts::from_iter([(session, 1)]),
            announced: SessionCounts::new(),
            continuation: false,
            epoch: 0,
        })
    }

    #[test]
    fn what_is_put_back_is_left_as_it_was() {
        let content = ContentStore::new(Arc::new(MemoryStorage::new()), 1 << 20);
        let items = || {
            let mut items: Vec<_> = ["co_z3", "co_z4", "co_z5"]
                .map(|id| item(&content, id, Ruleset::UnsafeAllowAll, &[TEXT]))
                .into();
            let done = Message::Done(CoValueId::parse("co_z9").unwrap());
            items.insert(1, Item::Message(done));
            items
        };
        // Two items in the first messages, and one behind them.
        let limits = TurnLimits { turn_bytes: 1 << 20, message_bytes: 100 };
        let mut turn = Turn::new(items(), limits);
        assert_eq!(block_on(turn.next(&content)).map(<[Message]>::len), Some(3));
        assert!(matches!(turn.put_back(), [Message::Done(_)]));
        assert_eq!(block_on(turn.next(&content)), None);
        let unsent = turn.finish().progress;

        let mut turn = Turn::new(items(), TurnLimits { turn_bytes: 0, ..limits });
        while block_on(turn.next(&content)).is_some() {}
        assert_eq!(unsent, turn.finish().progress, "as if there had been no room");
        assert_eq!(unsent.len(), 3);
    }

    #[test]
    fn what_depends_on_a_group_waits_for_the_next_turn_together_with_the_group() {
        let content = ContentStore::new(Arc::new(MemoryStorage::new()), 1 << 20);
        let initial_admin = Owner::Account(CoValueId::parse("co_z1").unwrap());
        // The group names a member since the turn was made, in the run that has to be sent.
        let group = item(&content, "co_z3", Ruleset::Group { initial_admin }, &[TEXT, MEMBER]);
        let map = item(&content, "co_z4", Ruleset::UnsafeAllowAll, &[TEXT]);
        let mut turn = Turn::new(vec![group, map], TurnLimits::default());
        assert_eq!(block_on(turn.next(&content)), None);
        let report = turn.finish();
        let progress: Vec<_> = report.progress.iter().map(|item| (item.id, item.stalled)).collect();
        // The machine has the group in its queue since the member was verified.
        let expected = [("co_z3", true), ("co_z4", false)];
        assert_eq!(
            progress,
            expected.map(|(id, stalled)| (CoValueId::parse(id).unwrap(), stalled))
        );
    }
}
