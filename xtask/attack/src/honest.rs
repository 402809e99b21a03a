//! The honest client. It has a thread of its own, so that a busy attacker in this process does not
//! delay its clock.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use downbeat_protocol::{CoValueId, Known, KnownState, Message};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use crate::author::{Author, Log, sized};
use crate::latency::Latency;
use crate::link::Link;
use crate::wire;

const WRITE_INTERVAL: Duration = Duration::from_millis(20);
const LOAD_INTERVAL: Duration = Duration::from_millis(100);

/// The CoValues that are loaded in turn.
const LOADED: usize = 150;

/// The length of a write.
const WRITE_BYTES: usize = 100;

/// Messages that wait for the socket: writes and loads of several minutes.
const OUTGOING: usize = 65_536;

/// A running honest client.
pub(crate) struct Honest {
    shared: Arc<Mutex<Shared>>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<KnownState>>,
}

/// Latencies of one phase.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Phase {
    pub(crate) writes: Latency,
    pub(crate) loads: Latency,
}

/// The measurements of the present phase.
#[derive(Default)]
struct Shared {
    writes: Vec<Duration>,
    loads: Vec<Duration>,
    /// Writes without an acknowledgement: the count after the write, and its time.
    unacknowledged: VecDeque<(u64, Instant)>,
    /// Loads without an answer.
    unanswered: HashMap<CoValueId, Instant>,
    /// Answers that an honest client should not get.
    complaints: Vec<String>,
}

impl Honest {
    /// Connects and uploads the content of the client, and starts to write and load.
    pub(crate) async fn start(address: &str, seed: u64) -> Result<Self> {
        let shared = Arc::<Mutex<Shared>>::default();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let (address, measured) = (address.to_owned(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let client = Client::connect(&address, seed, &measured).await?;
                let _ = ready.send(());
                client.run(stopped).await
            })
        });
        if is_ready.await.is_err() {
            let error = thread.join().ok().and_then(Result::err);
            return Err(error.context("the honest client panicked")?);
        }
        Ok(Self { shared, stop, thread })
    }

    /// Ends a phase, and returns its latencies. An operation without an answer counts with its
    /// present age, and again in the next phase.
    pub(crate) fn end_phase(&self) -> Phase {
        let now = Instant::now();
        let mut shared = lock(&self.shared);
        let mut writes = mem::take(&mut shared.writes);
        writes.extend(shared.unacknowledged.iter().map(|(_, sent)| now - *sent));
        let mut loads = mem::take(&mut shared.loads);
        loads.extend(shared.unanswered.values().map(|sent| now - *sent));
        Phase { writes: Latency::of(writes), loads: Latency::of(loads) }
    }

    /// Ends the client. Returns what the server has acknowledged, and complaints.
    pub(crate) fn stop(self) -> Result<(Option<KnownState>, Vec<String>)> {
        let _ = self.stop.send(());
        let ended = self.thread.join().ok().context("the honest client panicked")?;
        let mut complaints = mem::take(&mut lock(&self.shared).complaints);
        let acknowledged = match ended {
            Ok(acknowledged) => Some(acknowledged),
            Err(error) => {
                complaints.push(format!("the honest client was disconnected: {error:#}"));
                None
            }
        };
        Ok((acknowledged, complaints))
    }
}

/// The client, in its thread.
struct Client<'a> {
    author: Author,
    log: Log,
    loaded: Vec<CoValueId>,
    next: usize,
    acknowledged: u64,
    link: Link,
    shared: &'a Mutex<Shared>,
}

impl<'a> Client<'a> {
    async fn connect(address: &str, seed: u64, shared: &'a Mutex<Shared>) -> Result<Self> {
        let author = Author::new(seed);
        let mut contents = author.basics();
        let mut loaded = Vec::new();
        for number in 0..LOADED {
            let header = author.map(&format!("loaded {number}"));
            let mut log = Log::new(header, author.session(2));
            contents.push(log.write(&author, vec![sized(WRITE_BYTES)]));
            loaded.push(log.id());
        }
        let mut log = Log::new(author.map("written"), author.session(1));
        let first = log.write(&author, vec![sized(WRITE_BYTES)]);
        Link::connect(address).await?.upload(contents).await?;
        let mut link = Link::connect(address).await?;
        link.upload(vec![first]).await?;
        Ok(Self { author, log, loaded, next: 0, acknowledged: 1, link, shared })
    }

    /// Writes and loads until it is stopped. Fails if the connection ends.
    async fn run(mut self, mut stop: oneshot::Receiver<()>) -> Result<KnownState> {
        // Sending must not delay receiving.
        let (outgoing, mut queue) = mpsc::channel::<Message>(OUTGOING);
        let Link { mut sender, mut receiver } = self.link;
        tokio::spawn(async move {
            while let Some(message) = queue.recv().await {
                // The receiving half reports the error.
                if sender.send(&[message]).await.is_err() {
                    return;
                }
            }
        });
        let (mut write, mut load) = (interval(WRITE_INTERVAL), interval(LOAD_INTERVAL));
        write.set_missed_tick_behavior(MissedTickBehavior::Delay);
        load.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                biased;
                _ = &mut stop => break,
                incoming = receiver.receive() => {
                    let incoming = incoming?.context("the server has closed the connection")?;
                    let mut shared = lock(self.shared);
                    let heard = incoming.messages.iter();
                    let answers = heard.filter_map(|message| {
                        shared.hear(message, &self.log, &mut self.acknowledged)
                    });
                    for answer in answers.collect::<Vec<_>>() {
                        outgoing.try_send(answer).context("the server does not read")?;
                    }
                    continue;
                }
                _ = write.tick() => {
                    let content = self.log.append(&self.author, vec![sized(WRITE_BYTES)]);
                    let sent = (self.log.count(), Instant::now());
                    lock(self.shared).unacknowledged.push_back(sent);
                    Message::Content(content)
                }
                _ = load.tick() => {
                    let id = self.loaded[self.next % self.loaded.len()];
                    self.next += 1;
                    lock(self.shared).unanswered.entry(id).or_insert_with(Instant::now);
                    Message::Load(KnownState::empty(id))
                }
            };
            outgoing.try_send(message).context("the server does not read")?;
        }
        let mut acknowledged = self.log.known_state();
        acknowledged.sessions.set(self.log.session(), self.acknowledged);
        Ok(acknowledged)
    }
}

impl Shared {
    /// Notes a message of the server, and returns the answer.
    fn hear(&mut self, message: &Message, log: &Log, acknowledged: &mut u64) -> Option<Message> {
        let now = Instant::now();
        match message {
            Message::Known(known) if known.state.id == log.id() => {
                let count = known.state.sessions.get(log.session());
                if known.is_correction {
                    self.complaints.push(format!("write {count} of the honest client was lost"));
                }
                *acknowledged = count.max(*acknowledged);
                while let Some((_, sent)) =
                    self.unacknowledged.pop_front_if(|(written, _)| *written <= count)
                {
                    self.writes.push(now - sent);
                }
                None
            }
            Message::Known(known) => {
                let id = known.state.id;
                if self.answered(id, now) && !known.state.header {
                    self.complaints.push(format!("{id} of the honest client is gone"));
                }
                None
            }
            Message::Content(content) => {
                self.answered(content.id, now);
                let state = wire::reached(content);
                let known = Known { state, is_correction: false, as_dependency_of: None };
                Some(Message::Known(known))
            }
            _ => None,
        }
    }

    fn answered(&mut self, id: CoValueId, now: Instant) -> bool {
        let sent = self.unanswered.remove(&id);
        self.loads.extend(sent.map(|sent| now - sent));
        sent.is_some()
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
