//! A client that writes to CoValues over its own connection until the connection breaks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, Content, Known, KnownState, Message, Transaction};
use downbeat_transport::{Connection, Connector, Receiver, Sender};
use downbeat_transport_ws::{WsConnector, WsOptions};
use fastrand::Rng;
use tokio::task::JoinSet;

use crate::people::{self, Person};
use crate::truth::Truth;

/// The maximum number of CoValues with unacknowledged content per client. High enough that the
/// server stores several in one batch.
const MAX_UNACKNOWLEDGED: usize = 48;

/// Number of shared CoValues that clients write to: the latest ones.
const SHARED: usize = 24;

/// The longest pause between two steps of a client, in microseconds.
const MAX_PAUSE: u64 = 4_000;

/// The state of an author, which outlives connections.
pub(crate) struct Author {
    number: u8,
    person: Person,
    truth: Truth,
    shared: Shared,
    rng: Rng,
    groups: Vec<CoValueId>,
    owned: Vec<CoValueId>,
}

/// The CoValues that all authors write to, oldest first.
pub(crate) type Shared = Arc<std::sync::Mutex<VecDeque<CoValueId>>>;

/// The number of concurrent authors.
pub(crate) const AUTHORS: u8 = 4;

/// Runs new authors until each has done `steps` steps, and everything is acknowledged.
pub(crate) async fn write_all(seed: u64, truth: &Truth, url: &str, steps: usize) -> Result<()> {
    let shared = Shared::default();
    let mut writing = JoinSet::new();
    for number in 0..AUTHORS {
        let mut author = Author::new(seed, number, truth, &shared);
        let url = url.to_owned();
        writing.spawn(async move { author.write(&url, BTreeMap::new(), Some(steps)).await });
    }
    writing.join_all().await.into_iter().collect()
}

/// The content of new authors that take turns, `steps` steps each, until `take` returns `None`.
/// Depends only on the seed.
pub(crate) fn write_in_turns(
    seed: u64,
    truth: &Truth,
    steps: usize,
    mut take: impl FnMut(Content) -> Option<()>,
) -> Result<()> {
    let shared = Shared::default();
    let mut authors: Vec<_> =
        (0..AUTHORS).map(|number| Author::new(seed, number, truth, &shared)).collect();
    let mut sessions: Vec<_> = authors
        .iter_mut()
        .map(|author| Session {
            author,
            expected: BTreeMap::new(),
            unacknowledged: BTreeMap::new(),
        })
        .collect();
    for _ in 0..steps {
        for session in &mut sessions {
            for message in session.step()? {
                if let Message::Content(content) = message
                    && take(content).is_none()
                {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// A connection of an author.
struct Session<'a> {
    author: &'a mut Author,
    /// The state of the server if everything sent arrives.
    expected: BTreeMap<CoValueId, KnownState>,
    /// Sent content that is not acknowledged.
    unacknowledged: BTreeMap<CoValueId, KnownState>,
}

impl Author {
    pub(crate) fn new(seed: u64, number: u8, truth: &Truth, shared: &Shared) -> Self {
        let person = Person::new(seed, number);
        truth.create(person.account.clone());
        Self {
            number,
            person,
            truth: truth.clone(),
            shared: Arc::clone(shared),
            rng: Rng::with_seed(seed ^ (u64::from(number) << 32)),
            groups: Vec::new(),
            owned: Vec::new(),
        }
    }

    /// The number of this author.
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// Writes until the connection ends, or until `steps` steps are done and acknowledged. `server`
    /// is the state of the server at the start. Fails if the server acknowledges content that was
    /// never written.
    pub(crate) async fn write(
        &mut self,
        url: &str,
        server: BTreeMap<CoValueId, KnownState>,
        steps: Option<usize>,
    ) -> Result<()> {
        let connector = WsConnector::new(url, WsOptions::default())?;
        // The server may be dead by now.
        let Ok(connection) = connector.connect().await else { return Ok(()) };
        let Connection { mut sender, mut receiver, .. } = connection;
        let unacknowledged = BTreeMap::new();
        let mut session = Session { author: self, expected: server, unacknowledged };
        session.work(&mut *sender, &mut *receiver, steps).await
    }
}

impl Session<'_> {
    async fn work(
        &mut self,
        sender: &mut dyn Sender,
        receiver: &mut dyn Receiver,
        steps: Option<usize>,
    ) -> Result<()> {
        let mut left = steps;
        loop {
            let may_write = self.unacknowledged.len() < MAX_UNACKNOWLEDGED && left != Some(0);
            if left == Some(0) && self.unacknowledged.is_empty() {
                return Ok(());
            }
            let pause = Duration::from_micros(self.author.rng.u64(..MAX_PAUSE));
            tokio::select! {
                biased;
                incoming = receiver.receive() => {
                    let Ok(Some(incoming)) = incoming else { return Ok(()) };
                    for message in incoming.messages {
                        self.hear(sender, message).await?;
                    }
                }
                () = tokio::time::sleep(pause), if may_write => {
                    let messages = self.step()?;
                    left = left.map(|left| left - 1);
                    // A broken connection may still have messages to receive.
                    let _ = sender.send(&messages).await;
                }
            }
        }
    }

    /// Handles a message. The server must keep everything that it acknowledges.
    async fn hear(&mut self, sender: &mut dyn Sender, message: Message) -> Result<()> {
        let answer = match message {
            Message::Known(known) => {
                self.author.truth.acknowledge(&known.state)?;
                let id = known.state.id;
                let is_deleted =
                    known.state.sessions.iter().any(|(session, _)| session.is_delete());
                let is_all = self.unacknowledged.get(&id).is_some_and(|sent| {
                    known_state::is_subset(&sent.sessions, &known.state.sessions)
                });
                if is_all || is_deleted {
                    self.unacknowledged.remove(&id);
                }
                if !known.is_correction {
                    return Ok(());
                }
                self.expected.insert(id, known.state);
                self.own_content(id)
            }
            Message::Load(state) => {
                let mut content = contents(self.author.truth.content_since(state.id, Some(&state)));
                if content.is_empty() {
                    content.push(told(state));
                }
                content
            }
            Message::Content(content) => {
                vec![told(self.author.truth.known_state(content.id).context("not created")?)]
            }
            Message::Done(_)
            | Message::Reconcile(_)
            | Message::ReconcileAck(_)
            | Message::Unknown(_) => return Ok(()),
        };
        let _ = sender.send(&answer).await;
        Ok(())
    }

    /// Does one random step, and returns the messages to send.
    fn step(&mut self) -> Result<Vec<Message>> {
        let Author { person, truth, shared, rng, groups, owned, .. } = &mut *self.author;
        let session = person.sessions[rng.usize(..person.sessions.len())].clone();
        let random = rng.u64(..);
        let (id, session, transaction) = match rng.u32(..100) {
            0..4 => {
                let (header, admin) = person.group(random);
                let id = truth.create(header);
                groups.push(id);
                (id, session, admin)
            }
            4..14 => {
                let group = rng.choice(groups.iter().copied()).filter(|_| rng.bool());
                let id = truth.create(people::map(group, random));
                if group.is_some() {
                    owned.push(id);
                }
                let mut shared = lock(shared);
                shared.push_back(id);
                if shared.len() > SHARED {
                    shared.pop_front();
                }
                (id, session, text(rng))
            }
            14..16 if !owned.is_empty() => {
                let id = owned.swap_remove(rng.usize(..owned.len()));
                (id, person.delete_session(random), people::deletion(id))
            }
            _ => {
                let Some(id) = rng.choice(lock(shared).iter().copied()) else {
                    return Ok(Vec::new());
                };
                (id, session, text(rng))
            }
        };
        let written = truth.write(id, &session, transaction, person.secret.signer_secret())?;
        Ok(if written { self.own_content(id) } else { Vec::new() })
    }

    /// The missing content of the author's own sessions in a CoValue, with the header and all
    /// dependencies.
    fn own_content(&mut self, id: CoValueId) -> Vec<Message> {
        let Author { person, truth, .. } = &*self.author;
        let mut messages = Vec::new();
        let account = truth.create(person.account.clone());
        for id in [account, id] {
            let known = self.expected.get(&id);
            let mut missing = truth.content_since(id, known);
            for content in &mut missing {
                content.sessions.retain(|run| run.session.owner() == person.sessions[0].owner());
                content.expect_content_until = None;
            }
            missing.retain(|content| content.header.is_some() || !content.sessions.is_empty());
            let expected = self.expected.entry(id).or_insert_with(|| KnownState::empty(id));
            for content in &missing {
                let ends = content.sessions.iter().map(|run| (run.session.clone(), run.end()));
                let sent = KnownState { id, header: true, sessions: ends.collect() };
                known_state::merge(expected, &sent);
                let waiting =
                    self.unacknowledged.entry(id).or_insert_with(|| KnownState::empty(id));
                known_state::merge(waiting, &sent);
            }
            messages.extend(contents(missing));
        }
        messages
    }
}

fn contents(contents: Vec<Content>) -> Vec<Message> {
    contents.into_iter().map(Message::Content).collect()
}

fn told(state: KnownState) -> Message {
    Message::Known(Known { state, is_correction: false, as_dependency_of: None })
}

/// A transaction, mostly short. Some are so long that they take many records.
fn text(rng: &mut Rng) -> Transaction {
    let len = match rng.u32(..100) {
        0..70 => rng.usize(..200),
        70..98 => rng.usize(..5_000),
        _ => rng.usize(..300_000),
    };
    people::set("text", &"x".repeat(len))
}

pub(crate) fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, VecDeque<CoValueId>> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
