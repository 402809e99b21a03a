//! Cutting content for a peer into messages.

use downbeat_core::{dependencies, known_state};
use downbeat_protocol::{CoValueId, Content, SessionContent, SessionCounts};
use downbeat_sync::{ContentItem, Progress};

/// Cuts a [`ContentItem`] into messages. As long as [`Self::next_read`] returns a request, read for
/// it and call [`Self::add`]; then [`Self::finish`] returns the messages. [`Turn`](crate::Turn)
/// does all of this.
///
/// ```
/// # use downbeat_protocol::{CoValueId, Header, Ruleset, SessionContent, SessionCounts};
/// # use downbeat_sync::ContentItem;
/// # use downbeat_driver::ContentChunker;
/// # fn read(_: CoValueId, _: &SessionCounts, _: usize) -> Vec<SessionContent> { Vec::new() }
/// # let header = Header::builder("comap", Ruleset::UnsafeAllowAll).build()?;
/// # let (id, have, until) = (CoValueId::parse("co_z1")?, SessionCounts::new(), SessionCounts::new());
/// # let announced = SessionCounts::new();
/// # let (with_header, continuation, epoch) = (true, false, 0);
/// # let item =
/// #     ContentItem { id, header, with_header, have, until, announced, continuation, epoch };
/// let mut chunker = ContentChunker::new(item, 256 << 10, 100 << 10);
/// while let Some(request) = chunker.next_read() {
///     let runs = read(request.id, request.have, request.max_bytes);
///     chunker.add(runs);
/// }
/// let (messages, progress) = chunker.finish();
/// assert_eq!((messages.len(), progress), (1, None), "a header, and nothing is left to do");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ContentChunker {
    item: ContentItem,
    /// Bytes of transactions that may be read.
    room: usize,
    /// Bytes of transactions in a message, beyond which a new one is started.
    message_bytes: u64,
    contents: Vec<Content>,
    /// Bytes of transactions in all of them, and in the last.
    bytes: usize,
    open: u64,
    /// What the peer has with them.
    reached: SessionCounts,
    /// How many of the item's sessions they do not bring to their end.
    left: usize,
    /// Whether they have more of a session than was asked for, because the signature at the end is
    /// that of more.
    goes_beyond: bool,
    /// Where the next read begins, if that is not what the peer has: beyond the end of sessions
    /// that are passed over.
    passed_over: Option<SessionCounts>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// The rest cannot be read.
    Stalled,
    /// The item is out of date: the machine has put a newer one into its queue.
    Outdated,
    /// The machine asks for the rest again.
    Interrupted,
}

/// A request to read content.
#[derive(Debug, Clone, Copy)]
pub struct ReadRequest<'a> {
    /// The CoValue.
    pub id: CoValueId,
    /// Read beyond these counts, in runs that each end at a signature.
    pub have: &'a SessionCounts,
    /// Only these sessions, and only up to these counts, are needed.
    pub until: &'a SessionCounts,
    /// Read about as many bytes of transactions, and at least one run, if there is any.
    pub max_bytes: usize,
}

impl ContentChunker {
    /// Begins with an item. Reading stops after `room` bytes of transactions, and a new message
    /// begins after `message_bytes` (a single run may be larger). With a `room` of 0 nothing is
    /// sent, and all of the item is left for later.
    pub fn new(item: ContentItem, room: usize, message_bytes: u64) -> Self {
        let mut chunker = Self {
            room,
            message_bytes,
            contents: Vec::new(),
            bytes: 0,
            open: 0,
            reached: item.have.clone(),
            left: item.until.len(),
            goes_beyond: false,
            passed_over: None,
            state: State::Reading,
            item,
        };
        if room > 0 && chunker.item.until.is_empty() {
            chunker.start();
        }
        chunker
    }

    /// Returns the next request, if more has to be read.
    pub fn next_read(&self) -> Option<ReadRequest<'_>> {
        let max_bytes = self.room.checked_sub(self.bytes).filter(|room| *room > 0)?;
        let is_done = self.state != State::Reading || self.has_all();
        let Self { item: ContentItem { id, until, .. }, .. } = self;
        let have = self.passed_over.as_ref().unwrap_or(&self.reached);
        (!is_done).then_some(ReadRequest { id: *id, have, until, max_bytes })
    }

    /// Adds the runs that were read. No runs mean that there are no more.
    pub fn add(&mut self, runs: Vec<SessionContent>) {
        if runs.is_empty() {
            self.state = State::Stalled;
        }
        for run in runs {
            let until = self.item.until.get(&run.session);
            if run.after >= until {
                // What it needs may not have been sent.
                self.pass_over(&run);
                continue;
            }
            if self.names_more(&run, until) {
                // The machine knows of it since its verification, and asks for it again together
                // with the CoValues that it names.
                self.state = State::Outdated;
                self.pass_over(&run);
                continue;
            }
            if run.end() >= until && self.reached.get(&run.session) < until {
                self.left -= 1;
            }
            self.goes_beyond |= run.end() > until;
            self.reached.raise(&run.session, run.end());
            if let Some(have) = &mut self.passed_over {
                have.raise(&run.session, run.end());
            }
            self.put(run);
        }
    }

    /// Reads nothing more of a run's session.
    fn pass_over(&mut self, run: &SessionContent) {
        let have = self.passed_over.get_or_insert_with(|| self.reached.clone());
        have.set(&run.session, u64::MAX);
    }

    /// Stops, because reading failed. If it failed `for_now`, the machine asks for the rest again.
    pub fn fail(&mut self, for_now: bool) {
        self.state = if for_now { State::Interrupted } else { State::Stalled };
    }

    /// Whether the machine asks for the rest in a newer item. Later items of the same turn may
    /// depend on it, so they have to wait for the next turn too.
    pub fn is_outdated(&self) -> bool {
        self.state == State::Outdated
    }

    /// Bytes of transactions in the messages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the messages, and the progress unless they end exactly where the item ends.
    pub fn finish(self) -> (Vec<Content>, Option<Progress>) {
        let (contents, rest, _) = self.finish_with_item();
        (contents, rest)
    }

    /// The same, with the item.
    pub(crate) fn finish_with_item(self) -> (Vec<Content>, Option<Progress>, ContentItem) {
        let complete = self.room > 0 && self.has_all();
        let Self { item, mut contents, reached, goes_beyond, state, .. } = self;
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
        let rest = (!complete || goes_beyond).then_some(Progress {
            id: item.id,
            epoch: item.epoch,
            header: !item.with_header || !contents.is_empty(),
            started,
            reached,
            stalled: matches!(state, State::Stalled | State::Outdated),
        });
        (contents, rest, item)
    }

    fn has_all(&self) -> bool {
        self.left == 0
    }

    /// Whether a run of a group goes beyond the requested count, because it ends at a signature,
    /// and names members or parents there that the peer has not been sent.
    fn names_more(&self, run: &SessionContent, until: u64) -> bool {
        if run.end() <= until || !self.item.header.is_group() {
            return false;
        }
        let asked = usize::try_from(until.saturating_sub(run.after)).unwrap_or(usize::MAX);
        let beyond = run.transactions.get(asked..).unwrap_or_default();
        let asked = run.transactions.get(..asked).unwrap_or(&run.transactions);
        let known = dependencies::of_group_transactions(asked);
        let named = dependencies::of_group_transactions(beyond);
        named.iter().any(|id| *id != self.item.id && !known.contains(id))
    }

    /// Starts a message.
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

    /// Puts a run into the last message, or into a new one.
    fn put(&mut self, run: SessionContent) {
        let bytes = run.json_len();
        let fits = !self.contents.is_empty() && self.open + bytes <= self.message_bytes;
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
        self.bytes = self.bytes.saturating_add(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
}

#[cfg(test)]
mod tests {
    use downbeat_protocol::{Header, Owner, Ruleset, SessionId, Signature, Transaction};

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

    /// A group's item for a peer that has nothing and is to have this much.
    fn item(until: &[(&str, u64)]) -> ContentItem {
        let initial_admin = Owner::Account(CoValueId::parse("co_z1").unwrap());
        ContentItem {
            id: CoValueId::parse("co_z3").unwrap(),
            header: Header::builder("comap", Ruleset::Group { initial_admin }).build().unwrap(),
            with_header: true,
            have: SessionCounts::new(),
            until: until.iter().map(|(name, count)| (session(name), *count)).collect(),
            announced: SessionCounts::new(),
            continuation: false,
            epoch: 0,
        }
    }

    /// What is sent of these runs, which are read one at a time in this order, to a peer that is
    /// to have this much.
    fn sent(runs: &[SessionContent], until: &[(&str, u64)]) -> (Vec<(SessionId, u64)>, bool) {
        let mut chunker = ContentChunker::new(item(until), 1 << 20, 1 << 20);
        while let Some(request) = chunker.next_read() {
            let mut next = runs.iter().filter(|run| run.after >= request.have.get(&run.session));
            chunker.add(next.next().cloned().into_iter().collect());
        }
        let (contents, rest) = chunker.finish();
        let runs = contents.into_iter().flat_map(|content| content.sessions);
        let stalled = rest.is_some_and(|rest| rest.stalled);
        (runs.map(|run| (run.session.clone(), run.end())).collect(), stalled)
    }

    #[test]
    fn sessions_that_came_since_are_left_for_the_next_turn() {
        let long = vec![set("k"); 10];
        let runs = vec![run("a", 0, long.clone()), run("b", 0, long)];
        assert_eq!(sent(&runs, &[("b", 10)]), (vec![(session("b"), 10)], false));
        assert_eq!(sent(&runs, &[("a", 10)]), (vec![(session("a"), 10)], false));
    }

    #[test]
    fn more_of_a_session_is_sent_if_it_needs_nothing_more() {
        let more = vec![run("a", 0, vec![set(MEMBER), set("k"), set(MEMBER)])];
        assert_eq!(sent(&more, &[("a", 1)]), (vec![(session("a"), 3)], false));
    }

    #[test]
    fn members_who_were_added_since_wait_until_they_are_sent_first() {
        let runs = vec![run("a", 0, vec![set("k"), set(MEMBER)]), run("b", 0, vec![set("k")])];
        assert_eq!(sent(&runs, &[("a", 1)]), (vec![], true));
        let first = vec![run("b", 0, vec![set("k")]), runs[0].clone()];
        assert_eq!(sent(&first, &[("a", 1), ("b", 1)]), (vec![(session("b"), 1)], true));
    }

    #[test]
    fn messages_are_bounded_and_the_first_says_what_is_to_come() {
        let piece = vec![set("k"); 2];
        let bytes = run("a", 0, piece.clone()).json_len();
        let runs: Vec<_> = (0..5).map(|piece_no| run("a", 2 * piece_no, piece.clone())).collect();
        let mut chunker = ContentChunker::new(item(&[("a", 10)]), 1 << 20, 2 * bytes);
        chunker.add(runs);
        assert!(chunker.next_read().is_none());
        let (contents, rest) = chunker.finish();
        let ends: Vec<_> = contents.iter().map(|content| content.sessions[0].end()).collect();
        assert_eq!(ends, [4, 8, 10]);
        assert_eq!(contents[0].expect_content_until, Some(item(&[("a", 10)]).until));
        assert!(contents[0].header.is_some() && contents[1].header.is_none());
        assert_eq!((&contents[1].expect_content_until, rest), (&None, None));
    }

    #[test]
    fn what_has_no_room_is_left_to_do() {
        let mut chunker = ContentChunker::new(item(&[("a", 2)]), 1, 1);
        chunker.add(vec![run("a", 0, vec![set("k")])]);
        assert!(chunker.next_read().is_none(), "the room is used up");
        let rest = chunker.finish().1.unwrap();
        assert!(rest.started && rest.header && !rest.stalled);
        assert_eq!(rest.reached, SessionCounts::from_iter([(session("a"), 1)]));

        let (contents, rest) = ContentChunker::new(item(&[("a", 2)]), 0, 1).finish();
        assert!(contents.is_empty());
        assert!(rest.is_some_and(|rest| !rest.started && !rest.header && !rest.stalled));
    }

    #[test]
    fn a_failure_for_now_asks_for_the_rest_again_and_one_for_good_does_not() {
        for for_now in [true, false] {
            let mut chunker = ContentChunker::new(item(&[("a", 2)]), 1 << 20, 1 << 20);
            chunker.fail(for_now);
            assert!(chunker.next_read().is_none());
            assert_eq!(chunker.finish().1.unwrap().stalled, !for_now);
        }
    }
}
