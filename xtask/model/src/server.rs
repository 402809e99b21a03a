//! The server: the real machine, and a model of the runtime by its contract.
//!
//! A state stores the inputs of the machine instead of the machine, and each step feeds all inputs
//! to a new machine. So states are small, and the real machine can reach each of them.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use downbeat_driver::{ContentChunker, ReadRequest};
use downbeat_protocol::{SessionContent, SessionCounts};
use downbeat_sync::{
    Action, Config, ContentItem, Event, Item, Loaded, Machine, PeerId, PeerRole, Progress,
    Rejection, StoreJob, Stored, Verified, VerifyJob,
};

use crate::cast::{self, CLIENTS, Counts, Run, Said, State, Unforeseen};
use crate::digest;
use crate::rules::Violation;

/// The machine's clock. It does not advance, because nothing in a scope waits for a timeout.
const NOW: u64 = 0;

/// The server since its last start, and its disk.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    config: Config,
    /// Whether the machine may receive several events before it is polled.
    batches: bool,
    /// The inputs of the machine since the start, the last one first.
    fed: Option<Arc<Fed>>,
    /// The digest of the machine's state.
    digest: u64,
    /// Whether the machine has received an event since it was last polled.
    pub is_fed: bool,
    pub peers: Vec<Peer>,
    /// Verifications in progress. They end in any order.
    pub checks: BTreeSet<Check>,
    /// Stores in progress, in their order.
    pub stores: VecDeque<Store>,
    /// The number of look-ups in progress.
    pub look_ups: u8,
    /// The durable content.
    pub durable: State,
    /// The number of verified transactions, including those that were durable at the start.
    verified: Counts,
    next_peer: u64,
}

/// The server's side of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub id: u64,
    pub client: usize,
    /// Messages of the client that the machine has not received yet.
    pub incoming: VecDeque<Said>,
    /// Messages of the server that the client has not received yet.
    pub outgoing: VecDeque<Said>,
    pub turn: Turn,
    /// Whether the client is gone, but the machine has not received `Disconnected` yet.
    pub is_cut: bool,
}

/// The state of a peer's turn.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Turn {
    Idle,
    /// The turn waits until the connection has room.
    Given(Vec<Part>),
    /// The turn is written, but the machine has not received `TurnDone` yet.
    Written(Vec<Rest>),
}

/// A part of a turn.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Message(Said),
    Content(Piece),
}

/// Content to send.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Piece {
    with_header: bool,
    have: Counts,
    until: Counts,
    is_continuation: bool,
    epoch: u32,
}

/// The progress of content that was sent only in part.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Rest {
    epoch: u32,
    header: bool,
    started: bool,
    /// The sessions of the content, each with the count that the peer has now.
    reached: Counts,
}

/// Signatures to check.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Check {
    session: usize,
    runs: Vec<Run>,
}

/// Content to make durable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    header: bool,
    runs: Vec<Run>,
}

/// The inputs of the machine, as a linked list.
#[derive(Debug)]
struct Fed {
    before: Option<Arc<Fed>>,
    input: Input,
}

#[derive(Debug, Clone)]
enum Input {
    Connected(u64),
    Disconnected(u64),
    Received(u64, Said),
    Loaded(State),
    Verified(Check, bool),
    Stored(Store),
    TurnDone(u64, Vec<Rest>),
    Poll,
}

impl Server {
    pub(crate) fn new(config: Config, batches: bool) -> Self {
        let machine = Machine::new(config);
        Self {
            config,
            batches,
            fed: None,
            digest: digest::of(&machine),
            is_fed: false,
            peers: Vec::new(),
            checks: BTreeSet::new(),
            stores: VecDeque::new(),
            look_ups: 0,
            durable: State::default(),
            verified: Counts::default(),
            next_peer: 0,
        }
    }

    /// Whether the server has no work in progress.
    pub(crate) fn is_at_rest(&self) -> bool {
        !self.is_fed
            && self.checks.is_empty()
            && self.stores.is_empty()
            && self.look_ups == 0
            && self.peers.iter().all(|peer| {
                !peer.is_cut
                    && peer.incoming.is_empty()
                    && peer.outgoing.is_empty()
                    && peer.turn == Turn::Idle
            })
    }

    /// Connects a client. Returns the number of the connection.
    pub(crate) fn connect(&mut self, client: usize) -> Result<u64, Violation> {
        let id = self.next_peer;
        self.next_peer += 1;
        self.peers.push(Peer {
            id,
            client,
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
            turn: Turn::Idle,
            is_cut: false,
        });
        self.feed(Input::Connected(id))?;
        Ok(id)
    }

    /// Delivers `Disconnected` to the machine. Messages that the machine has not received are lost.
    pub(crate) fn disconnect(&mut self, peer: usize) -> Result<(), Violation> {
        let peer = self.peers.remove(peer);
        self.feed(Input::Disconnected(peer.id))
    }

    /// Delivers the next message of a peer to the machine.
    pub(crate) fn receive(&mut self, peer: usize) -> Result<(), Violation> {
        let peer = &mut self.peers[peer];
        let Some(said) = peer.incoming.pop_front() else { return Ok(()) };
        let id = peer.id;
        self.feed(Input::Received(id, said))
    }

    /// Finishes a look-up.
    pub(crate) fn finish_look_up(&mut self) -> Result<(), Violation> {
        self.look_ups -= 1;
        self.feed(Input::Loaded(self.durable))
    }

    /// Finishes a verification. `are_genuine` is its result.
    pub(crate) fn finish_check(
        &mut self,
        check: &Check,
        are_genuine: bool,
    ) -> Result<(), Violation> {
        self.checks.remove(check);
        if are_genuine && let Some(last) = check.runs.last() {
            self.verified[check.session] = last.end;
        }
        self.feed(Input::Verified(check.clone(), are_genuine))
    }

    /// Finishes the oldest store.
    pub(crate) fn finish_store(&mut self) -> Result<(), Violation> {
        let Some(store) = self.persist()? else { return Ok(()) };
        self.feed(Input::Stored(store))
    }

    /// Reads the content of a peer's turn, at most `limit` transactions, and writes the turn to the
    /// connection.
    pub(crate) fn write_turn(&mut self, peer: usize, limit: u8) -> Result<(), Violation> {
        let (readable, durable) = (self.readable(), self.durable);
        let peer = &mut self.peers[peer];
        let Turn::Given(parts) = std::mem::replace(&mut peer.turn, Turn::Idle) else {
            return Ok(());
        };
        let mut rests = Vec::new();
        for part in parts {
            let said = match part {
                Part::Message(said) => vec![said],
                Part::Content(piece) => {
                    let (said, rest) = piece.read(readable, limit)?;
                    rests.extend(rest);
                    said
                }
            };
            for said in said {
                if let Said::Known { state, .. } = &said
                    && !durable.covers(*state)
                {
                    return Err(Violation::AcknowledgedTooEarly);
                }
                if !peer.is_cut {
                    peer.outgoing.push_back(said);
                }
            }
        }
        peer.turn = Turn::Written(rests);
        Ok(())
    }

    /// Delivers `TurnDone` to the machine.
    pub(crate) fn finish_turn(&mut self, peer: usize) -> Result<(), Violation> {
        let peer = &mut self.peers[peer];
        let Turn::Written(rests) = std::mem::replace(&mut peer.turn, Turn::Idle) else {
            return Ok(());
        };
        let id = peer.id;
        self.feed(Input::TurnDone(id, rests))
    }

    /// Restarts the server. Of the stores in progress, the first `kept` become durable before.
    pub(crate) fn restart(&mut self, kept: usize) -> Result<(), Violation> {
        for _ in 0..kept {
            self.persist()?;
        }
        let (durable, next_peer) = (self.durable, self.next_peer);
        *self = Self {
            durable,
            next_peer,
            verified: durable.counts,
            ..Self::new(self.config, self.batches)
        };
        Ok(())
    }

    /// Polls the machine.
    pub(crate) fn poll(&mut self) -> Result<(), Violation> {
        self.push(Input::Poll);
        self.is_fed = false;
        self.replay()
    }

    fn feed(&mut self, input: Input) -> Result<(), Violation> {
        self.push(input);
        if self.batches {
            self.is_fed = true;
            return self.replay();
        }
        self.poll()
    }

    /// Feeds all inputs to a new machine, and carries out the actions after the last input.
    fn replay(&mut self) -> Result<(), Violation> {
        let mut machine = Machine::new(self.config);
        let mut actions = Vec::new();
        for input in self.inputs() {
            actions.clear();
            input.feed(&mut machine, &mut actions);
        }
        self.digest = digest::of(&machine);
        actions.into_iter().try_for_each(|action| self.carry_out(action))
    }

    fn push(&mut self, input: Input) {
        self.fed = Some(Arc::new(Fed { before: self.fed.take(), input }));
    }

    /// All inputs of the machine, in order.
    fn inputs(&self) -> Vec<&Input> {
        let mut inputs: Vec<&Input> =
            std::iter::successors(self.fed.as_deref(), |fed| fed.before.as_deref())
                .map(|fed| &fed.input)
                .collect();
        inputs.reverse();
        inputs
    }

    fn carry_out(&mut self, action: Action) -> Result<(), Violation> {
        match action {
            Action::Turn { peer, items } => {
                let parts = items.iter().map(Part::of_item).collect::<Result<Vec<_>, _>>()?;
                // The peer is gone if the machine has received its `Disconnected`.
                let Some(peer) = self.peers.iter_mut().find(|other| other.id == peer.0) else {
                    return Ok(());
                };
                if peer.turn != Turn::Idle {
                    return Err(Violation::SecondTurn);
                }
                peer.turn = Turn::Given(parts);
            }
            Action::Load(_) => self.look_ups += 1,
            Action::Verify(job) => {
                if !self.checks.insert(Check::of_job(&job)?) {
                    return Err(Violation::SecondCheck);
                }
            }
            Action::Store(job) => {
                let store = Store::of_job(&job)?;
                if store.runs.iter().any(|run| run.end > self.verified[run.session]) {
                    return Err(Violation::StoredUnverified);
                }
                self.stores.push_back(store);
            }
            // Each turn is reported.
            Action::AwaitTurn(_)
            | Action::Release { .. }
            | Action::Close { .. }
            | Action::Report(_) => {}
            Action::Track { .. } | Action::ListUnsynced { .. } | Action::ListStored { .. } => {
                return Err(
                    Unforeseen("an action for an upstream, but there is none".into()).into()
                );
            }
        }
        Ok(())
    }

    /// Makes the oldest store durable.
    fn persist(&mut self) -> Result<Option<Store>, Violation> {
        let Some(store) = self.stores.pop_front() else { return Ok(None) };
        self.durable.header |= store.header;
        for run in &store.runs {
            let count = &mut self.durable.counts[run.session];
            if !self.durable.header || *count != run.after {
                return Err(Violation::StoreDoesNotFollow);
            }
            *count = run.end;
        }
        Ok(Some(store))
    }

    /// The readable content: the durable content and the stores in progress.
    fn readable(&self) -> State {
        let mut readable = self.durable;
        for store in &self.stores {
            readable.header |= store.header;
            for run in &store.runs {
                readable.counts[run.session] = run.end;
            }
        }
        readable
    }
}

impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Server {}

impl Hash for Server {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.parts().hash(hasher);
    }
}

impl Server {
    /// The fields that distinguish the states of the server.
    #[allow(clippy::type_complexity, reason = "a list of fields, named in this order below")]
    fn parts(
        &self,
    ) -> (u64, bool, &[Peer], &BTreeSet<Check>, &VecDeque<Store>, u8, State, Counts, u64) {
        let Self { digest, is_fed, peers, checks, stores, look_ups, durable, .. } = self;
        let (verified, next_peer) = (self.verified, self.next_peer);
        (*digest, *is_fed, peers, checks, stores, *look_ups, *durable, verified, next_peer)
    }
}

impl Input {
    fn feed(&self, machine: &mut Machine, actions: &mut Vec<Action>) {
        let event = match self {
            Self::Poll => {
                return machine.poll(actions);
            }
            Self::Connected(peer) => {
                Event::Connected { peer: PeerId(*peer), role: PeerRole::Client }
            }
            Self::Disconnected(peer) => Event::Disconnected(PeerId(*peer)),
            Self::Received(peer, said) => {
                Event::Received { peer: PeerId(*peer), message: said.to_message() }
            }
            Self::Loaded(state) => Event::Loaded { id: cast::id(), result: Ok(loaded(*state)) },
            Self::Verified(check, are_genuine) => Event::Verified(check.outcome(*are_genuine)),
            Self::Stored(store) => Event::Stored(store.outcome()),
            Self::TurnDone(peer, rests) => Event::TurnDone {
                peer: PeerId(*peer),
                progress: rests.iter().map(Rest::to_progress).collect(),
            },
        };
        machine.handle(NOW, event);
    }
}

fn loaded(state: State) -> Option<Box<Loaded>> {
    state.header.then(|| {
        Box::new(Loaded {
            header: cast::header().clone(),
            sessions: cast::to_session_counts(state.counts),
            dependencies: Vec::new(),
            deleted: false,
        })
    })
}

impl Part {
    fn of_item(item: &Item) -> Result<Self, Unforeseen> {
        match item {
            Item::Message(message) => Ok(Self::Message(Said::of_message(message)?)),
            Item::Content(item) => Ok(Self::Content(Piece::of_item(item)?)),
        }
    }
}

impl Piece {
    fn of_item(item: &ContentItem) -> Result<Self, Unforeseen> {
        Ok(Self {
            with_header: item.with_header,
            have: cast::of_session_counts(&item.have)?,
            until: cast::of_session_counts(&item.until)?,
            is_continuation: item.continuation,
            epoch: item.epoch,
        })
    }

    fn to_item(&self) -> ContentItem {
        ContentItem {
            id: cast::id(),
            header: cast::header().clone(),
            with_header: self.with_header,
            have: cast::to_session_counts(self.have),
            until: cast::to_session_counts(self.until),
            announced: SessionCounts::new(),
            continuation: self.is_continuation,
            epoch: self.epoch,
        }
    }

    /// Reads up to `limit` transactions, and cuts them into messages as servers do. Returns the
    /// messages, and the rest if there is one.
    fn read(&self, readable: State, limit: u8) -> Result<(Vec<Said>, Option<Rest>), Violation> {
        let lacks = |session: &usize| self.until[*session] > self.have[*session];
        let is_readable =
            |session| readable.header && self.until[session] <= readable.counts[session];
        if !(0..CLIENTS).filter(lacks).all(is_readable) {
            return Err(Violation::UnreadableContent);
        }
        let room = usize::from(limit) * cast::transaction_bytes();
        let mut chunker = ContentChunker::new(self.to_item(), room, u64::MAX);
        while let Some(request) = chunker.next_read() {
            let runs = read(&request)?;
            chunker.add(runs);
        }
        let (contents, rest) = chunker.finish();
        let said = contents.iter().map(Said::of_content).collect::<Result<_, _>>()?;
        let rest = rest.as_ref().map(Rest::of_progress).transpose()?;
        Ok((said, rest))
    }
}

/// Reads as many transactions as a request has room for.
fn read(request: &ReadRequest<'_>) -> Result<Vec<SessionContent>, Unforeseen> {
    let (have, until) =
        (cast::of_session_counts(request.have)?, cast::of_session_counts(request.until)?);
    let room = request.max_bytes / cast::transaction_bytes();
    let mut room = u8::try_from(room).unwrap_or(u8::MAX);
    let mut runs = Vec::new();
    for session in 0..CLIENTS {
        let (after, end) = (have[session], until[session].min(have[session].saturating_add(room)));
        if end > after {
            room -= end - after;
            runs.push(Run { session, after, end }.to_content());
        }
    }
    Ok(runs)
}

impl Rest {
    fn of_progress(progress: &Progress) -> Result<Self, Violation> {
        if progress.stalled {
            return Err(Violation::UnreadableContent);
        }
        Ok(Self {
            epoch: progress.epoch,
            header: progress.header,
            started: progress.started,
            reached: cast::of_session_counts(&progress.reached)?,
        })
    }

    fn to_progress(&self) -> Progress {
        Progress {
            id: cast::id(),
            epoch: self.epoch,
            header: self.header,
            started: self.started,
            reached: cast::to_session_counts(self.reached),
            stalled: false,
        }
    }
}

impl Check {
    fn of_job(job: &VerifyJob) -> Result<Self, Unforeseen> {
        let session = cast::session_number(&job.session)?;
        Ok(Self { session, runs: runs_of(&job.runs)? })
    }

    fn outcome(&self, are_genuine: bool) -> Verified {
        let after = self.runs.first().map_or(0, |run| u64::from(run.after));
        let runs: Vec<SessionContent> = self.runs.iter().copied().map(Run::to_content).collect();
        Verified {
            id: cast::id(),
            session: cast::session(self.session).clone(),
            accepted: if are_genuine { runs } else { Vec::new() },
            // Without a chain, because a kept chain has stamps of use, which would make equal
            // states different.
            chain: None,
            rejection: (!are_genuine).then_some(Rejection::BadSignature { after }),
        }
    }

    /// The author of the session.
    pub(crate) fn author(&self) -> usize {
        self.session
    }
}

impl Store {
    fn of_job(job: &StoreJob) -> Result<Self, Unforeseen> {
        Ok(Self { header: job.header.is_some(), runs: runs_of(&job.sessions)? })
    }

    fn outcome(&self) -> Stored {
        Stored {
            id: cast::id(),
            durable: self
                .runs
                .iter()
                .map(|run| (cast::session(run.session).clone(), u64::from(run.end)))
                .collect(),
            conflict: false,
        }
    }
}

fn runs_of(sessions: &[SessionContent]) -> Result<Vec<Run>, Unforeseen> {
    sessions.iter().map(Run::of_content).collect()
}
