//! The acts of honest clients: creating CoValues, writing to them, and subscribing to others'
//! CoValues.

use downbeat_core::CoValue;
use downbeat_core::delete;
use downbeat_protocol::{
    CoValueId, Header, KnownState, Message, SessionContent, SessionId, Transaction,
};
use downbeat_sync::PeerId;

use super::{Kind, Known, Step, World};
use crate::link::{End, Side};
use crate::people::{self, EPOCH, Person};

/// The length of the changes in a transaction of a large CoValue. A piece has three transactions.
const LARGE_CHANGES: usize = 40_000;

/// The maximum number of transactions in one write to a large CoValue.
const LARGE_WRITES: usize = 8;

impl World {
    pub(super) fn client_connected(&mut self, client: usize, link: PeerId) {
        self.clients[client].connected(link);
        if self.rng.percent(self.plan.comparisons) {
            self.clients[client].compare();
        }
        self.send_outbox(client);
    }

    pub(super) fn client_disconnected(&mut self, client: usize, link: PeerId) {
        if self.clients[client].link == Some(link) {
            self.clients[client].disconnected();
        }
    }

    pub(super) fn client_reads(&mut self, client: usize, id: PeerId, side: Side) {
        let slow_until = self.clients[client].slow_until;
        if slow_until > self.now {
            return self.schedule(slow_until - self.now, Step::Read { link: id, side });
        }
        while let Some(message) = self.next_unread(id, side) {
            if let Message::Known(known) = &message
                && let Some(End::Node(node)) =
                    self.links.get(&id).map(|link| link.end(side.other()))
            {
                self.client_sees(client, node, &known.state);
            }
            if let Err(broken) = self.clients[client].hear(message) {
                return self.fail(|| format!("client {client} received a wrong message: {broken}"));
            }
            self.send_outbox(client);
        }
    }

    /// Records an acknowledgement, as far as the client itself has the acknowledged content.
    fn client_sees(&mut self, client: usize, node: usize, state: &KnownState) {
        let copy = self.clients[client].copies.get(&state.id);
        let Some(value) = copy.and_then(|copy| copy.value.as_ref()) else { return };
        let ours = value.known_state().sessions;
        let both = ours
            .iter()
            .map(|(session, count)| (session.clone(), state.sessions.get(session).min(*count)));
        let both = KnownState { sessions: both.collect(), ..state.clone() };
        self.acknowledged(node, &both);
    }

    pub(super) fn send_outbox(&mut self, client: usize) {
        let Some(link) = self.clients[client].link else { return };
        for message in std::mem::take(&mut self.clients[client].outbox) {
            self.check_repeats(client, &message);
            self.send(link, Side::Dialler, message);
        }
    }

    pub(super) fn act_later(&mut self, client: usize, left: usize) {
        self.clients[client].is_done = left == 0;
        if left > 0 {
            let delay = self.rng.time(0, self.plan.pause);
            self.schedule(delay, Step::Act { client, left });
        }
    }

    pub(super) fn act(&mut self, client: usize, left: usize) {
        match self.rng.below(12) {
            0..3 => self.make(client),
            3..7 => self.write_to_some(client),
            9 if self.plan.forgetful => self.forget_some(client),
            7..10 => self.subscribe_to_some(client),
            10 => self.extend_some_group(client),
            _ if self.plan.deletions => self.delete_some(client),
            _ => self.write_to_some(client),
        }
        self.send_outbox(client);
        self.act_later(client, left - 1);
    }

    fn person(&self, client: usize) -> Person {
        self.people[self.clients[client].person].clone()
    }

    fn session_number(client: usize) -> u8 {
        u8::try_from(client).unwrap_or(u8::MAX)
    }

    fn make(&mut self, client: usize) {
        let number = self.values.len() as u64;
        let groups = self.own_values(client, Kind::Group);
        let account = self.person(client).account;
        match self.rng.below(8) {
            0..3 => self.make_value(client, Kind::Free, people::free_map(number)),
            3 if self.plan.large => self.make_value(client, Kind::File, people::file(number)),
            3..6 => match self.rng.pick(&groups).copied() {
                Some(group) => {
                    self.make_value(client, Kind::Owned, people::owned_map(number, group));
                }
                None => self.make_value(client, Kind::Group, people::group(number, account)),
            },
            _ => self.make_value(client, Kind::Group, people::group(number, account)),
        }
    }

    /// The CoValues that a client has created.
    fn own_values(&self, client: usize, kind: Kind) -> Vec<CoValueId> {
        let is_own = |value: &&Known| value.maker == client && value.kind == kind;
        self.values.iter().filter(is_own).map(|value| value.id).collect()
    }

    fn make_value(&mut self, client: usize, kind: Kind, header: Header) {
        let value = CoValue::new(header.clone());
        let id = value.id();
        let number = self.values.len();
        self.log.name(id.as_str(), || format!("{kind:?}{number}"));
        self.note(|| format!("client {client} creates {id}"));
        self.values.push(Known { id, header, kind, maker: client });
        self.clients[client].adopt(value);
        if kind == Kind::Group {
            let account = self.person(client).account;
            let changes = people::group_changes(&[(account.to_string(), "admin")]);
            self.write(client, id, &[changes]);
        } else if self.rng.percent(80) {
            self.write_something(client, id, kind);
        } else {
            self.upload(client, id, None);
        }
    }

    /// Uploads new content of a CoValue, mostly after the dependencies that the server does not
    /// know.
    fn upload(&mut self, client: usize, id: CoValueId, before: Option<&KnownState>) {
        if self.rng.percent(70) {
            self.upload_dependencies(client, id, 0);
        }
        // If the client does not know the server's state, it usually sends everything. Sometimes it
        // sends only the new content, and receives a correction.
        let has_heard = self.clients[client].copies[&id].expected.is_some();
        let is_quick = !has_heard && self.rng.percent(30);
        let before = before.filter(|_| has_heard || is_quick).cloned();
        self.clients[client].send_new(id, before.as_ref());
    }

    fn upload_dependencies(&mut self, client: usize, id: CoValueId, depth: usize) {
        /// More levels than the groups of honest clients have.
        const MAX_DEPTH: usize = 8;
        let Some(value) = self.clients[client].copies.get(&id).and_then(|copy| copy.value.as_ref())
        else {
            return;
        };
        if depth > MAX_DEPTH {
            return;
        }
        for piece in value.content_since(None) {
            for dependency in
                downbeat_core::dependencies::of_content(id, self.header_of(client, id), &piece)
            {
                let is_new = self.clients[client]
                    .copies
                    .get(&dependency)
                    .is_some_and(|copy| copy.expected.is_none() && copy.value.is_some());
                if is_new {
                    self.upload_dependencies(client, dependency, depth + 1);
                    self.clients[client].send_new(dependency, None);
                }
            }
        }
    }

    fn header_of(&self, client: usize, id: CoValueId) -> &Header {
        self.clients[client].copies[&id].value.as_ref().expect("the client has a copy").header()
    }

    fn write_to_some(&mut self, client: usize) {
        let writable: Vec<(CoValueId, Kind)> = self
            .values
            .iter()
            .filter(|known| matches!(known.kind, Kind::Free | Kind::File | Kind::Owned))
            .filter(|known| {
                let copy = self.clients[client].copies.get(&known.id);
                copy.and_then(|copy| copy.value.as_ref()).is_some_and(|value| !value.is_deleted())
            })
            .map(|known| (known.id, known.kind))
            .collect();
        match self.rng.pick(&writable).copied() {
            Some((id, kind)) => self.write_something(client, id, kind),
            None => self.make(client),
        }
    }

    fn write_something(&mut self, client: usize, id: CoValueId, kind: Kind) {
        let changes: Vec<String> = if kind == Kind::File {
            let count = 1 + self.rng.below(LARGE_WRITES);
            let large = "x".repeat(LARGE_CHANGES);
            (0..count).map(|n| format!(r#"[{{"type":"chunk","chunk":"{n}{large}"}}]"#)).collect()
        } else {
            let count = 1 + self.rng.below(3);
            (0..count)
                .map(|n| format!(r#"[{{"key":"k{n}","op":"set","value":{}}}]"#, self.now))
                .collect()
        };
        self.write(client, id, &changes);
    }

    /// Writes transactions, and sends them.
    fn write(&mut self, client: usize, id: CoValueId, changes: &[String]) {
        let person = self.person(client);
        let number = Self::session_number(client);
        let is_group = self.values.iter().any(|known| known.id == id && known.kind == Kind::Group);
        let session =
            if is_group { person.account_session(number) } else { person.session(number) };
        let transactions = changes
            .iter()
            .map(|changes| Transaction::trusting(changes, EPOCH + self.now, None))
            .collect();
        self.sign(client, id, &session, transactions);
    }

    fn sign(
        &mut self,
        client: usize,
        id: CoValueId,
        session: &SessionId,
        transactions: Vec<Transaction>,
    ) {
        let person = self.person(client);
        if session.account().is_some() {
            self.know_account(client, &person);
        }
        let Some(copy) = self.clients[client].copies.get_mut(&id) else { return };
        let Some(value) = &mut copy.value else { return };
        let before = value.known_state();
        for transaction in transactions {
            match value.append(session, transaction, person.secret.signer_secret()) {
                Ok(_) => self.truth.note_last(value, session),
                Err(_) => return,
            }
        }
        if let Some(log) = value.session(session)
            && let Some(last_signature) = log.last_signature()
        {
            let run = SessionContent {
                session: session.clone(),
                after: 0,
                transactions: log.transactions().to_vec(),
                last_signature,
            };
            let len = log.len();
            self.note(|| format!("client {client} writes {id} {session} up to {len}"));
            // If a lying peer repeated both histories of a fork before a node knows either, nodes
            // could accept different histories.
            if !self.clients[client].forked.contains(&id) {
                self.overheard.push((id, run));
            }
        }
        self.upload(client, id, Some(&before));
    }

    /// Gives a client an account: its own, or the account of another client.
    fn know_account(&mut self, client: usize, person: &Person) {
        if !self.values.iter().any(|known| known.id == person.account) {
            let header = person.account_header.clone();
            self.values.push(Known {
                id: person.account,
                header,
                kind: Kind::Account,
                maker: client,
            });
        }
        let is_own = self.person(client).account == person.account;
        self.clients[client].adopt(CoValue::new(person.account_header.clone()));
        if !is_own {
            self.clients[client].follow(person.account);
        }
    }

    fn subscribe_to_some(&mut self, client: usize) {
        let Some(known) = self.rng.pick(&self.values) else { return };
        let id = known.id;
        self.clients[client].subscribe(id);
    }

    /// Drops the copy of a CoValue without own content, or loses the end of the client's session in
    /// another CoValue.
    fn forget_some(&mut self, client: usize) {
        let session = self.person(client).session(Self::session_number(client));
        let is_plain = |known: &&Known| matches!(known.kind, Kind::Free | Kind::File | Kind::Owned);
        let plain: Vec<CoValueId> =
            self.values.iter().filter(is_plain).map(|known| known.id).collect();
        let state = &self.clients[client];
        let is_here = |id: &CoValueId| {
            let value = state.copies.get(id).and_then(|copy| copy.value.as_ref());
            value.is_some_and(|value| !value.is_deleted()) && !state.forked.contains(id)
        };
        let (written, read): (Vec<CoValueId>, Vec<CoValueId>) =
            plain.into_iter().filter(is_here).partition(|id| state.count(*id, &session) > 0);
        let forgotten = self.rng.pick(&read).copied();
        let lost = self.rng.pick(&written).copied();
        match (forgotten, lost) {
            (Some(id), _) if self.rng.percent(50) => {
                self.note(|| format!("client {client} forgets {id}"));
                self.clients[client].forget(id);
            }
            (_, Some(id)) => self.crash(client, id, &session),
            _ => self.subscribe_to_some(client),
        }
    }

    /// Crashes a client. It loses its connection and the end of a session that the server already
    /// has, and then writes other transactions there.
    fn crash(&mut self, client: usize, id: CoValueId, session: &SessionId) {
        let copy = &self.clients[client].copies[&id];
        let Some(value) = copy.value.clone() else { return };
        let acknowledged = copy.server.as_ref().map_or(0, |state| state.sessions.get(session));
        let count = self.clients[client].count(id, session).min(acknowledged);
        let Some(left) = usize::try_from(count).ok().filter(|count| *count > 0) else { return };
        let left = self.rng.below(left);
        let mut rest = CoValue::new(value.header().clone());
        let mut pieces = value.content_since(None);
        for piece in &mut pieces {
            piece.sessions.retain(|run| run.session != *session);
        }
        let Some(log) = value.session(session) else { return };
        let kept: Vec<Transaction> = log.transactions()[..left].to_vec();
        let mut others: Vec<SessionContent> =
            pieces.into_iter().flat_map(|piece| piece.sessions).collect();
        others.extend(self.truth.run(id, session, &kept));
        for run in others {
            let content = downbeat_protocol::Content {
                id,
                header: None,
                priority: value.header().priority(),
                sessions: vec![run],
                malformed: Vec::new(),
                expect_content_until: None,
            };
            if self.clients[client].restore(&mut rest, &content).is_err() {
                return;
            }
        }
        self.note(|| {
            format!("client {client} crashes, and keeps {left} of {count} in {id} {session}")
        });
        if let Some(link) = self.clients[client].link {
            self.cut(link, 0);
            self.clients[client].disconnected();
        }
        self.clients[client].restarted();
        self.clients[client].forked.insert(id);
        self.clients[client].lose(id, rest);
        let kind = self.values.iter().find(|known| known.id == id).map(|known| known.kind);
        if let Some(kind) = kind {
            self.write_something(client, id, kind);
        }
    }

    /// Adds a member to a group, or another group as a parent.
    fn extend_some_group(&mut self, client: usize) {
        let groups = self.own_values(client, Kind::Group);
        let Some(group) = self.rng.pick(&groups).copied() else { return self.make(client) };
        let parent = groups.iter().copied().find(|other| *other < group);
        let keys = match parent {
            Some(parent) if self.rng.percent(40) => (format!("parent_{parent}"), "extend"),
            _ => {
                let other = self.rng.below(self.clients.len());
                if other == client {
                    return self.write_to_some(client);
                }
                let person = self.person(other);
                self.know_account(client, &person);
                (person.account.to_string(), "writer")
            }
        };
        self.write(client, group, &[people::group_changes(&[keys])]);
    }

    fn delete_some(&mut self, client: usize) {
        let owned = self.own_values(client, Kind::Owned);
        let Some(id) = self.rng.pick(&owned).copied() else { return self.write_to_some(client) };
        let session = self.person(client).delete_session(Self::session_number(client));
        if self.clients[client].count(id, &session) > 0 {
            return;
        }
        let transaction = delete::transaction(id, EPOCH + self.now);
        self.sign(client, id, &session, vec![transaction]);
    }
}
