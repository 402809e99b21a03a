//! The model: states, the steps between them, and what must hold in each.

use std::fmt;

use downbeat_sync::Config;
use stateright::{Model, Property};

use crate::cast::{self, CLIENTS, MAX_WRITES, Said};
use crate::client::Client;
use crate::rules::Violation;
use crate::server::{Server, Turn};

/// Messages that may be sent between two things that happen from outside. A LOAD, its answer, what
/// that calls for and the acknowledgements are far fewer for two clients.
const MAX_MESSAGES: u8 = 60;

/// What may happen, and how often. The check is exhaustive within it.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each switches one thing, by itself")]
pub struct Scope {
    /// Transactions that each client writes, at times of its choosing. The first creates the
    /// CoValue.
    pub writes: [u8; CLIENTS],
    /// Connections that are lost.
    pub losses: u8,
    /// Whether the server may learn late that a connection was lost, at any time after the client
    /// has connected again.
    pub late_losses: bool,
    /// Starts of the server, each after it has lost all but its disk.
    pub restarts: u8,
    /// Transactions that one turn has room for.
    pub room: u8,
    /// Whether other things may come between a turn's being written and the machine's hearing of
    /// it.
    pub late_turns: bool,
    /// Whether several events may come before the machine is asked what it wants done.
    pub batches: bool,
    /// Whether the machine forgets the CoValue whenever nothing is going on with it.
    pub forgets: bool,
    /// A client whose signatures are wrong.
    pub forger: Option<usize>,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            writes: [1, 1],
            losses: 0,
            late_losses: false,
            restarts: 0,
            room: MAX_WRITES,
            late_turns: false,
            batches: false,
            forgets: false,
            forger: None,
        }
    }
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Moment {
    clients: [Client; CLIENTS],
    server: Server,
    losses: u8,
    restarts: u8,
    /// Messages sent since something happened from outside.
    messages: u8,
    violation: Option<Violation>,
}

/// One thing that may happen next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Connect(usize),
    Write(usize),
    Lose(usize),
    NoticeLoss(usize),
    Restart { kept: usize },
    Receive(usize),
    Hear(usize),
    WriteTurn(usize),
    FinishTurn(usize),
    FinishLookUp,
    FinishCheck(usize),
    FinishStore,
    Poll,
}

impl Model for Scope {
    type State = Moment;
    type Action = Step;

    fn init_states(&self) -> Vec<Moment> {
        let config = Config {
            warm_co_values: if self.forgets { 0 } else { Config::default().warm_co_values },
            ..Config::default()
        };
        vec![Moment {
            clients: [0, 1].map(|number| Client::new(number, self.writes[number])),
            server: Server::new(config, self.batches),
            losses: self.losses,
            restarts: self.restarts,
            messages: 0,
            violation: None,
        }]
    }

    fn actions(&self, moment: &Moment, steps: &mut Vec<Step>) {
        if moment.violation.is_some() {
            return;
        }
        let server = &moment.server;
        if let Some(peer) = moment.undisturbed() {
            return steps.push(Step(Kind::Hear(peer)));
        }
        let mut kinds = Vec::new();
        kinds.extend(server.is_fed.then_some(Kind::Poll));
        for (number, client) in moment.clients.iter().enumerate() {
            if client.may_write() {
                kinds.push(Kind::Write(number));
            }
            if client.connection.is_none() {
                kinds.push(Kind::Connect(number));
            } else if moment.losses > 0 {
                kinds.push(Kind::Lose(number));
            }
        }
        for (number, peer) in server.peers.iter().enumerate() {
            if peer.is_cut {
                kinds.push(Kind::NoticeLoss(number));
            }
            if !peer.incoming.is_empty() {
                kinds.push(Kind::Receive(number));
            }
            if !peer.outgoing.is_empty() {
                kinds.push(Kind::Hear(number));
            }
            match peer.turn {
                Turn::Idle => {}
                Turn::Given(_) => kinds.push(Kind::WriteTurn(number)),
                Turn::Written(_) => kinds.push(Kind::FinishTurn(number)),
            }
        }
        kinds.extend((server.look_ups > 0).then_some(Kind::FinishLookUp));
        kinds.extend((0..server.checks.len()).map(Kind::FinishCheck));
        kinds.extend((!server.stores.is_empty()).then_some(Kind::FinishStore));
        if moment.restarts > 0 {
            kinds.extend((0..=server.stores.len()).map(|kept| Kind::Restart { kept }));
        }
        steps.extend(kinds.into_iter().map(Step));
    }

    fn next_state(&self, moment: &Moment, step: Step) -> Option<Moment> {
        let mut next = moment.clone();
        if let Err(violation) = next.take(self, &step.0) {
            next.violation = Some(violation);
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NO_RULE_IS_BROKEN, |_, moment: &Moment| moment.violation.is_none()),
            Property::always(AT_REST_ALL_HAVE_THE_SAME, |scope: &Self, moment: &Moment| {
                !moment.is_at_rest() || moment.is_converged(scope)
            }),
            Property::sometimes(IT_COMES_TO_REST, |scope: &Self, moment: &Moment| {
                moment.is_at_rest()
                    && moment.losses == 0
                    && moment.restarts == 0
                    && moment.server.durable.header
                    && moment.clients.iter().enumerate().all(|(number, client)| {
                        client.writes == 0 || scope.forger.is_some_and(|forger| forger != number)
                    })
            }),
        ]
    }
}

/// The rules of each step, see `Violation`.
pub(crate) const NO_RULE_IS_BROKEN: &str = "no rule is broken";

/// When nothing is under way and both are connected, both clients and the disk have the same, and
/// everything written is acknowledged.
pub(crate) const AT_REST_ALL_HAVE_THE_SAME: &str = "at rest all have the same";

/// The scope is not empty: all that may happen in it can have happened in the end.
pub(crate) const IT_COMES_TO_REST: &str = "it comes to rest";

impl Moment {
    /// What a step is, as a line of a conversation.
    pub(crate) fn describe(&self, step: &Step) -> String {
        let peer_name = |peer: usize| cast::name(self.server.peers[peer].client);
        let first = |said: Option<&Said>| said.map(ToString::to_string).unwrap_or_default();
        match &step.0 {
            Kind::Connect(client) => format!("{} connects", cast::name(*client)),
            Kind::Write(client) => format!("{} writes", cast::name(*client)),
            Kind::Lose(client) => format!("{} loses its connection", cast::name(*client)),
            Kind::NoticeLoss(peer) => {
                format!("the machine hears that {} is gone", peer_name(*peer))
            }
            Kind::Restart { kept } => format!(
                "the server restarts; {kept} of {} stores under way are durable",
                self.server.stores.len()
            ),
            Kind::Receive(peer) => format!(
                "{} → {}",
                peer_name(*peer),
                first(self.server.peers[*peer].incoming.front())
            ),
            Kind::Hear(peer) => format!(
                "{} ← {}",
                peer_name(*peer),
                first(self.server.peers[*peer].outgoing.front())
            ),
            Kind::WriteTurn(peer) => format!("the turn of {} is written", peer_name(*peer)),
            Kind::FinishTurn(peer) => {
                format!("the machine hears that the turn of {} is written", peer_name(*peer))
            }
            Kind::FinishLookUp => format!("the look-up finds {}", self.server.durable),
            Kind::FinishCheck(number) => {
                let check = self.server.checks.iter().nth(*number);
                let author = check.map_or('?', |check| cast::name(check.author()));
                format!("the verifier is done with the session of {author}")
            }
            Kind::FinishStore => "the oldest store is durable".to_owned(),
            Kind::Poll => "the machine is asked what it wants done".to_owned(),
        }
    }

    /// The rule that is broken, if one is.
    pub(crate) fn violation(&self) -> Option<&impl fmt::Display> {
        self.violation.as_ref()
    }

    /// Who has what.
    pub(crate) fn summary(&self) -> String {
        let mut lines = vec![format!("durable: {}", self.server.durable)];
        for (number, client) in self.clients.iter().enumerate() {
            let name = cast::name(number);
            lines.push(format!("{name} has {}, and was told {}", client.have, client.heard));
        }
        lines.join("\n")
    }

    /// A peer whose next message to its client may be heard before anything else happens, because
    /// whatever else can happen comes to the same before and after it: the client writes no more,
    /// nothing can be lost, and all other steps use the other ends of its two queues. Without this
    /// rule there are several times as many states, which show nothing new.
    fn undisturbed(&self) -> Option<usize> {
        if self.losses > 0 || self.restarts > 0 {
            return None;
        }
        self.server
            .peers
            .iter()
            .position(|peer| !peer.outgoing.is_empty() && self.clients[peer.client].writes == 0)
    }

    fn is_at_rest(&self) -> bool {
        self.violation.is_none()
            && self.server.is_at_rest()
            && self.clients.iter().all(|client| client.connection.is_some())
    }

    fn is_converged(&self, scope: &Scope) -> bool {
        let durable = self.server.durable;
        self.clients.iter().enumerate().all(|(number, client)| {
            if scope.forger.is_some() {
                // What is forged stays with its author, and the others have all the rest.
                let forged = scope.forger == Some(number);
                return (forged || client.have == durable)
                    && scope.forger.is_none_or(|forger| durable.counts[forger] == 0);
            }
            client.have == durable && client.heard.counts[number] == client.have.counts[number]
        })
    }

    fn take(&mut self, scope: &Scope, step: &Kind) -> Result<(), Violation> {
        match *step {
            Kind::Connect(client) => {
                self.messages = 0;
                let connection = self.server.connect(client)?;
                let said = self.clients[client].connect(connection);
                self.send(client, said)
            }
            Kind::Write(client) => {
                self.messages = 0;
                let said = self.clients[client].write();
                self.send(client, said)
            }
            Kind::Lose(client) => self.lose(scope, client),
            Kind::NoticeLoss(peer) => self.server.disconnect(peer),
            Kind::Restart { kept } => {
                self.messages = 0;
                self.restarts -= 1;
                self.clients.iter_mut().for_each(|client| client.connection = None);
                self.server.restart(kept)
            }
            Kind::Receive(peer) => self.server.receive(peer),
            Kind::Hear(peer) => self.hear(peer),
            Kind::WriteTurn(peer) => {
                self.server.write_turn(peer, scope.room)?;
                if scope.late_turns { Ok(()) } else { self.server.finish_turn(peer) }
            }
            Kind::FinishTurn(peer) => self.server.finish_turn(peer),
            Kind::FinishLookUp => self.server.finish_look_up(),
            Kind::FinishCheck(number) => {
                let Some(check) = self.server.checks.iter().nth(number).cloned() else {
                    return Ok(());
                };
                self.server.finish_check(&check, scope.forger != Some(check.author()))
            }
            Kind::FinishStore => self.server.finish_store(),
            Kind::Poll => self.server.poll(),
        }
    }

    fn lose(&mut self, scope: &Scope, client: usize) -> Result<(), Violation> {
        self.messages = 0;
        self.losses -= 1;
        let Some(connection) = self.clients[client].connection.take() else { return Ok(()) };
        let Some(peer) = self.server.peers.iter().position(|peer| peer.id == connection) else {
            return Ok(());
        };
        if !scope.late_losses {
            return self.server.disconnect(peer);
        }
        let peer = &mut self.server.peers[peer];
        peer.is_cut = true;
        peer.outgoing.clear();
        Ok(())
    }

    /// A client gets the next message that was sent to it.
    fn hear(&mut self, peer: usize) -> Result<(), Violation> {
        let peer = &mut self.server.peers[peer];
        let client = peer.client;
        let Some(said) = peer.outgoing.pop_front() else { return Ok(()) };
        if let Said::Known { state, .. } = &said
            && !state.covers(self.clients[client].heard)
        {
            return Err(Violation::TakenBack);
        }
        let answers = self.clients[client].hear(&said);
        self.send(client, answers)
    }

    fn send(&mut self, client: usize, said: Vec<Said>) -> Result<(), Violation> {
        let Some(connection) = self.clients[client].connection else { return Ok(()) };
        self.messages += u8::try_from(said.len()).unwrap_or(MAX_MESSAGES);
        if self.messages > MAX_MESSAGES {
            return Err(Violation::Circle);
        }
        if let Some(peer) = self.server.peers.iter_mut().find(|peer| peer.id == connection) {
            peer.incoming.extend(said);
        }
        Ok(())
    }
}
