//! The model: states, the steps between them, and the rules for each state.

use std::fmt;

use downbeat_sync::Config;
use stateright::{Model, Property};

use crate::cast::{self, CLIENTS, MAX_WRITES, Said};
use crate::client::Client;
use crate::rules::Violation;
use crate::server::{Server, Turn};

/// The maximum number of messages of the clients between two external events. A LOAD, its answer,
/// the requested content and the acknowledgements are far fewer for two clients.
const MAX_MESSAGES: u8 = 60;

/// The events that may occur, and their numbers. The check explores all orders within these limits.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Scope {
    /// The number of transactions that each client writes, at any time. The first client creates
    /// the CoValue.
    pub writes: [u8; CLIENTS],
    /// The number of lost connections.
    pub losses: u8,
    /// Whether the server may notice a lost connection late, even after the client has reconnected.
    pub late_losses: bool,
    /// The number of restarts of the server, which keeps only its disk.
    pub restarts: u8,
    /// The number of transactions that fit into one turn.
    pub room: u8,
    /// Whether other steps may come between writing a turn and the event `TurnDone`.
    pub late_turns: bool,
    /// Whether the machine may receive several events before it is polled.
    pub batches: bool,
    /// Whether the machine evicts the CoValue whenever it has no work in progress for it.
    pub forgets: bool,
    /// The client whose signatures are wrong, if there is one.
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

/// A state of the clients and the server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Moment {
    clients: [Client; CLIENTS],
    server: Server,
    losses: u8,
    restarts: u8,
    /// The number of messages that clients have sent since the last external event.
    messages: u8,
    violation: Option<Violation>,
}

/// A step from one state to the next.
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
pub(crate) const NO_RULE_IS_BROKEN: &str = "no step breaks a rule";

/// When no work is in progress and both clients are connected, the clients and the disk have the
/// same content, and all written content is acknowledged.
pub(crate) const AT_REST_ALL_HAVE_THE_SAME: &str = "at rest all copies are equal";

/// The scope is useful: a state at rest is reachable after all events of the scope.
pub(crate) const IT_COMES_TO_REST: &str = "a state at rest is reachable after all events";

impl Moment {
    /// A step, as a line of text.
    pub(crate) fn describe(&self, step: &Step) -> String {
        let peer_name = |peer: usize| cast::name(self.server.peers[peer].client);
        let first = |said: Option<&Said>| said.map(ToString::to_string).unwrap_or_default();
        match &step.0 {
            Kind::Connect(client) => format!("{} connects", cast::name(*client)),
            Kind::Write(client) => format!("{} writes", cast::name(*client)),
            Kind::Lose(client) => format!("{} loses its connection", cast::name(*client)),
            Kind::NoticeLoss(peer) => {
                format!("the machine receives Disconnected of {}", peer_name(*peer))
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
                format!("the machine receives TurnDone of {}", peer_name(*peer))
            }
            Kind::FinishLookUp => format!("the look-up finds {}", self.server.durable),
            Kind::FinishCheck(number) => {
                let check = self.server.checks.iter().nth(*number);
                let author = check.map_or('?', |check| cast::name(check.author()));
                format!("the verifier is done with the session of {author}")
            }
            Kind::FinishStore => "the oldest store is durable".to_owned(),
            Kind::Poll => "the machine is polled".to_owned(),
        }
    }

    /// The broken rule, if there is one.
    pub(crate) fn violation(&self) -> Option<&impl fmt::Display> {
        self.violation.as_ref()
    }

    /// The content of the disk and of the clients.
    pub(crate) fn summary(&self) -> String {
        let mut lines = vec![format!("durable: {}", self.server.durable)];
        for (number, client) in self.clients.iter().enumerate() {
            let name = cast::name(number);
            lines.push(format!("{name} has {}; its last KNOWN has {}", client.have, client.heard));
        }
        lines.join("\n")
    }

    /// A peer whose next message may be delivered to its client before all other steps, because
    /// this step commutes with all of them: the client writes no more, no loss or restart is left,
    /// and all other steps use the other ends of the peer's two queues. Without this reduction
    /// there are several times as many states, which show no new behaviour.
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
                // Forged content stays with its author. The others have all remaining content.
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

    /// Delivers the next message to a client.
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
