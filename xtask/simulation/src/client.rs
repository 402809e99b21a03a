//! An honest client: it keeps copies of CoValues, writes to them, and syncs them with its server
//! like the reference's clients.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use downbeat_core::{CoValue, DeleteError, Directory, dependencies, known_state};
use downbeat_crypto::sessions_hash;
use downbeat_protocol::{
    AgentId, CoValueId, Content, Known, KnownState, Message, Priority, Reconcile, SessionCounts,
    SessionId,
};
use downbeat_sync::{Millis, PeerId};

/// A client's state. Its messages are sent through [`Client::outbox`].
pub(crate) struct Client {
    pub person: usize,
    pub home: usize,
    pub link: Option<PeerId>,
    /// The client reads no messages before this time.
    pub slow_until: Millis,
    /// Whether the client has no acts left.
    pub is_done: bool,
    pub copies: BTreeMap<CoValueId, Copy>,
    /// Messages to send, in this order.
    pub outbox: Vec<Message>,
    /// Content that waits for dependencies.
    held: Vec<Content>,
    /// The batch id of the RECONCILE message that the server has not acknowledged.
    pub comparing: Option<String>,
    /// The states that this message has compared.
    pub compared: BTreeMap<CoValueId, KnownState>,
    /// The number of times that each transaction was sent over this connection.
    pub sent: BTreeMap<(CoValueId, SessionId, u64), u32>,
    /// CoValues with a forked session: the client lost the end of its session and wrote other
    /// transactions there.
    pub forked: BTreeSet<CoValueId>,
    /// Forked CoValues for which the server has sent content that does not verify in the client's
    /// copy. The client ignores later content of them.
    errored: BTreeSet<CoValueId>,
}

/// A client's copy of a CoValue, and its knowledge of the server's copy.
#[derive(Default)]
pub(crate) struct Copy {
    pub value: Option<CoValue>,
    /// The state that the server has reported.
    pub server: Option<KnownState>,
    /// The state of the server if everything sent arrives.
    pub expected: Option<KnownState>,
    /// Whether the client has sent the state of its copy over this connection.
    pub told: bool,
    /// The counts that the server has announced (`expectContentUntil`).
    promised: SessionCounts,
}

impl Client {
    pub(crate) fn new(person: usize, home: usize) -> Self {
        Self {
            person,
            home,
            link: None,
            slow_until: 0,
            is_done: false,
            copies: BTreeMap::new(),
            outbox: Vec::new(),
            held: Vec::new(),
            comparing: None,
            compared: BTreeMap::new(),
            sent: BTreeMap::new(),
            forked: BTreeSet::new(),
            errored: BTreeSet::new(),
        }
    }

    /// Handles a new connection: loads every CoValue again. Like the reference's clients, it keeps
    /// the state that the server has reported, and forgets content that it has sent beyond this
    /// state.
    pub(crate) fn connected(&mut self, link: PeerId) {
        self.link = Some(link);
        self.sent.clear();
        let ids: Vec<CoValueId> = self.copies.keys().copied().collect();
        for id in ids {
            let copy = self.copies.entry(id).or_default();
            copy.expected.clone_from(&copy.server);
            copy.told = false;
            self.ask(id);
        }
    }

    /// Restarts the client, which forgets the states that the server has reported.
    pub(crate) fn restarted(&mut self) {
        for copy in self.copies.values_mut() {
            (copy.server, copy.expected) = (None, None);
        }
    }

    pub(crate) fn disconnected(&mut self) {
        self.link = None;
        self.outbox.clear();
        self.held.clear();
        self.comparing = None;
        self.errored.clear();
    }

    /// Sends a RECONCILE message with all copies.
    pub(crate) fn compare(&mut self) {
        let here = self.copies.values().filter_map(|copy| copy.value.as_ref());
        self.compared = here.map(|value| (value.id(), value.known_state())).collect();
        let states = self.compared.iter();
        let values = states.map(|(id, state)| (*id, sessions_hash(&state.sessions))).collect();
        let id = "all".to_owned();
        self.comparing = Some(id.clone());
        self.say(Message::Reconcile(Reconcile { id, values }));
    }

    /// Drops the copy of a CoValue, and loads it again.
    pub(crate) fn forget(&mut self, id: CoValueId) {
        self.copies.insert(id, Copy::default());
        self.held.retain(|content| content.id != id);
        self.ask(id);
    }

    /// Puts content into a new copy of a CoValue.
    pub(crate) fn restore(&self, value: &mut CoValue, content: &Content) -> Result<(), String> {
        let directory = Accounts { copies: &self.copies, own: &value.clone() };
        let ingested = value.ingest(content, &directory).map_err(|error| error.to_string())?;
        let refused = ingested.refused().next().map(|(_, error)| error.to_string());
        refused.map_or(Ok(()), Err)
    }

    /// Replaces the copy of a CoValue with `left`, which has less content.
    pub(crate) fn lose(&mut self, id: CoValueId, left: CoValue) {
        if let Some(copy) = self.copies.get_mut(&id) {
            copy.value = Some(left);
        }
    }

    /// Subscribes to a CoValue.
    pub(crate) fn subscribe(&mut self, id: CoValueId) {
        if let Entry::Vacant(vacant) = self.copies.entry(id) {
            vacant.insert(Copy::default());
            self.ask(id);
        }
    }

    /// Loads a CoValue, unless the client has sent its state over this connection.
    pub(crate) fn follow(&mut self, id: CoValueId) {
        if self.copies.get(&id).is_some_and(|copy| !copy.told) {
            self.ask(id);
        }
    }

    fn ask(&mut self, id: CoValueId) {
        let mut state = self.state(id);
        if let Some(copy) = self.copies.get_mut(&id) {
            copy.told = true;
            // Like the reference's clients, it claims announced content that may not have arrived.
            // CoValues that are sent in several pieces are recognised by their priority.
            let is_large = |value: &CoValue| value.header().priority() == Priority::Low;
            if copy.value.as_ref().is_some_and(is_large) {
                known_state::merge_counts(&mut state.sessions, &copy.promised);
            }
        }
        self.say(Message::Load(state));
    }

    fn say(&mut self, message: Message) {
        if self.link.is_some() {
            self.outbox.push(message);
        }
    }

    fn state(&self, id: CoValueId) -> KnownState {
        let value = self.copies.get(&id).and_then(|copy| copy.value.as_ref());
        value.map_or_else(|| KnownState::empty(id), CoValue::known_state)
    }

    /// Adds a CoValue that the client has not received from the server.
    pub(crate) fn adopt(&mut self, value: CoValue) {
        let id = value.id();
        let copy = self.copies.entry(id).or_default();
        if copy.value.is_none() {
            copy.value = Some(value);
        }
    }

    /// Sends the content after `before`, on the assumption that the server has the rest.
    pub(crate) fn send_new(&mut self, id: CoValueId, before: Option<&KnownState>) {
        let Some(copy) = self.copies.get_mut(&id) else { return };
        let Some(value) = &copy.value else { return };
        let pieces = value.content_since(before);
        let state = value.known_state();
        if self.link.is_some() {
            merge(&mut copy.expected, &state);
            copy.told = true;
        }
        for piece in pieces {
            self.say(Message::Content(piece));
        }
    }

    /// Sends the content that the server lacks. If it lacks nothing, sends KNOWN if `wants_answer`
    /// is set or the client has not sent its state yet.
    fn send_missing(&mut self, id: CoValueId, wants_answer: bool) {
        let Some(copy) = self.copies.get_mut(&id) else { return };
        let Some(value) = &copy.value else { return };
        let pieces = value.content_since(copy.expected.as_ref());
        if pieces.is_empty() {
            if wants_answer || !copy.told {
                self.tell(id, false);
            }
            return;
        }
        self.send_pieces(id, pieces);
    }

    fn send_pieces(&mut self, id: CoValueId, pieces: Vec<Content>) {
        let state = self.state(id);
        if let Some(copy) = self.copies.get_mut(&id) {
            merge(&mut copy.expected, &state);
            copy.told = true;
        }
        for piece in pieces {
            self.say(Message::Content(piece));
        }
    }

    /// Sends KNOWN with the state of the copy.
    fn tell(&mut self, id: CoValueId, is_correction: bool) {
        let mut state = self.state(id);
        if let Some(copy) = self.copies.get_mut(&id) {
            copy.told = true;
            // For a deleted CoValue, the client claims all content of the server, so that the
            // server sends none of it.
            if copy.value.as_ref().is_some_and(CoValue::is_deleted)
                && let Some(server) = &copy.server
            {
                known_state::merge(&mut state, server);
            }
        }
        self.say(Message::Known(Known { state, is_correction, as_dependency_of: None }));
    }

    /// Handles a message. Fails if the server has broken a rule.
    pub(crate) fn hear(&mut self, message: Message) -> Result<(), String> {
        match message {
            Message::Load(state) => {
                let id = state.id;
                let copy = self.copies.entry(id).or_default();
                copy.server = Some(state.clone());
                copy.expected = Some(state);
                if copy.value.is_some() {
                    self.send_missing(id, true);
                } else {
                    self.tell(id, false);
                }
            }
            Message::Known(known) => {
                let id = known.state.id;
                let copy = self.copies.entry(id).or_default();
                if known.is_correction {
                    copy.server = Some(known.state.clone());
                    copy.expected = Some(known.state);
                } else {
                    merge(&mut copy.server, &known.state);
                    merge(&mut copy.expected, &known.state);
                }
                self.send_missing(id, false);
            }
            Message::Content(content) => {
                self.hear_content(content)?;
                for held in std::mem::take(&mut self.held) {
                    self.hear_content(held)?;
                }
            }
            Message::ReconcileAck(batch) => {
                self.comparing = self.comparing.take().filter(|id| *id != batch);
            }
            Message::Done(_) | Message::Reconcile(_) | Message::Unknown(_) => {}
        }
        Ok(())
    }

    fn hear_content(&mut self, content: Content) -> Result<(), String> {
        let id = content.id;
        if self.errored.contains(&id) {
            return Ok(());
        }
        if let Some(promised) = &content.expect_content_until {
            self.copies.entry(id).or_default().promised = promised.clone();
        }
        let here = self.copies.entry(id).or_default().value.as_ref();
        let is_deleted = here.is_some_and(CoValue::is_deleted);
        let header = here.map(CoValue::header).or(content.header.as_ref()).cloned();
        let is_held = self.held.iter().any(|held| held.id == id);
        let Some(header) = header else {
            if is_held {
                self.held.push(content);
            } else {
                self.tell(id, true);
            }
            return Ok(());
        };
        let missing = self.missing(dependencies::of_content(id, &header, &content));
        if !is_deleted && (is_held || !missing.is_empty()) {
            // The server must have sent the dependencies of the header before. Transactions may
            // have added other dependencies meanwhile; the client loads them.
            let mut absent = self.missing(dependencies::of_header(&header));
            absent.retain(|id| !self.held.iter().any(|held| held.id == *id));
            if let Some(dependency) = absent.first() {
                return Err(format!("{id} arrived before its dependency {dependency}"));
            }
            self.held.push(content);
            for dependency in missing {
                self.copies.entry(dependency).or_default();
                self.follow(dependency);
            }
            return Ok(());
        }
        let value = self.copies.entry(id).or_default().value.take();
        let mut value = value.unwrap_or_else(|| CoValue::new(header));
        let directory = Accounts { copies: &self.copies, own: &value.clone() };
        let ingested = value.ingest(&content, &directory).map_err(|error| error.to_string())?;
        let mut has_gap = false;
        for (session, error) in ingested.refused() {
            use downbeat_core::{LogError, SessionError};
            match error {
                SessionError::Log(LogError::Gap { .. }) => has_gap = true,
                SessionError::Deleted => {}
                _ if self.forked.contains(&id) => {
                    self.errored.insert(id);
                }
                _ => return Err(format!("{id} {session}: {error}")),
            }
        }
        let copy = self.copies.entry(id).or_default();
        let ends = content.sessions.iter().map(|run| (run.session.clone(), run.end()));
        let theirs = KnownState { id, header: true, sessions: ends.collect() };
        copy.value = Some(value);
        if !has_gap || is_deleted {
            merge(&mut copy.server, &theirs);
            merge(&mut copy.expected, &theirs);
        }
        self.tell(id, has_gap);
        self.send_missing(id, false);
        Ok(())
    }

    /// The ids in `ids` without a copy.
    fn missing(&self, mut ids: Vec<CoValueId>) -> Vec<CoValueId> {
        ids.retain(|id| self.copies.get(id).is_none_or(|copy| copy.value.is_none()));
        ids
    }

    /// The number of transactions of a session in the client's copy.
    pub(crate) fn count(&self, id: CoValueId, session: &SessionId) -> u64 {
        self.state(id).sessions.get(session)
    }
}

fn merge(target: &mut Option<KnownState>, source: &KnownState) {
    let target = target.get_or_insert_with(|| KnownState::empty(source.id));
    known_state::merge(target, source);
}

/// The accounts that a client has. It accepts every deletion, because the server decides whether an
/// author may delete; other checks cover this decision.
struct Accounts<'a> {
    copies: &'a BTreeMap<CoValueId, Copy>,
    own: &'a CoValue,
}

impl Directory for Accounts<'_> {
    fn agent(&self, account: CoValueId) -> Option<AgentId> {
        let copy = self.copies.get(&account).and_then(|copy| copy.value.as_ref());
        let value = if account == self.own.id() { Some(self.own) } else { copy };
        value?.header().account_agent().cloned()
    }

    fn may_delete(&self, _claim: &downbeat_core::delete::Claim) -> Result<(), DeleteError> {
        Ok(())
    }
}
