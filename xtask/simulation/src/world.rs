//! The simulated world: nodes, clients, links, the queue of scheduled steps, and the time.

mod chaos;
mod clients;
mod liars;
mod links;
mod losses;
mod nodes;
mod refusals;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use downbeat_driver::{DriverBug, WriteBatch};
use downbeat_protocol::{CoValueId, Header, Message, SessionContent};
use downbeat_storage::Outcome;
use downbeat_sync::{Event, InjectedBug, Item, Loaded, Millis, PeerId, StorageFailed, VerifyJob};

use crate::client::Client;
use crate::liar::Liar;
use crate::link::{Dial, End, Link, Side};
use crate::log::Log;
use crate::node::Node;
use crate::people::Person;
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::signatures::CachedSignatures;
use crate::truth::Truth;

/// The maximum number of steps of a run. The longest runs need some ten thousand.
const MAX_STEPS: u64 = 300_000;

/// The number of ticks at the end of a run, in which the machines evict entries that are not
/// needed.
const TICKS_AT_LAST: usize = 5;

/// All nodes, clients and links, and the queue of scheduled steps.
pub(crate) struct World {
    rng: Rng,
    now: Millis,
    plan: Scenario,
    queue: BTreeMap<(Millis, u64), Step>,
    scheduled: u64,
    pub steps: u64,
    people: Vec<Person>,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    liars: Vec<Liar>,
    links: BTreeMap<PeerId, Link>,
    next_link: u64,
    dials: Vec<Dial>,
    values: Vec<Known>,
    /// Content of honest clients, which lying peers change and repeat.
    overheard: Vec<(CoValueId, SessionContent)>,
    /// CoValues of lying peers. Nodes need not agree on them.
    suspect: BTreeSet<CoValueId>,
    /// CoValues with refused content.
    refused: BTreeSet<CoValueId>,
    truth: Truth,
    signatures: CachedSignatures,
    healed: bool,
    misfortunes: u64,
    bugs: Bugs,
    log: Log,
    failure: Option<String>,
}

/// The bugs that are injected into all nodes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bugs {
    pub machine: Option<InjectedBug>,
    pub driver: Option<DriverBug>,
}

/// A CoValue that clients may subscribe to.
#[derive(Debug, Clone)]
struct Known {
    id: CoValueId,
    header: Header,
    kind: Kind,
    /// The client that created it.
    maker: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Free,
    File,
    Group,
    Owned,
    Account,
}

/// A step of the simulation.
#[allow(clippy::large_enum_variant, reason = "steps are moved once or twice")]
enum Step {
    /// A client or a node tries to connect.
    Dial(usize),
    /// A message arrives.
    Deliver { link: PeerId, to: Side, message: Message },
    /// A peer reads the messages that have arrived.
    Read { link: PeerId, side: Side },
    /// A peer learns that a link has ended.
    Lost { link: PeerId, side: Side },
    /// A node does a step.
    Node { node: usize, life: u32, what: NodeStep },
    /// A node starts.
    Start(usize),
    /// An honest client does a random act.
    Act { client: usize, left: usize },
    /// A lying peer sends messages.
    Lie { liar: usize, left: usize },
    /// A fault is injected.
    Misfortune,
}

/// A step of a node.
enum NodeStep {
    Poll,
    Tick,
    LookUp(CoValueId),
    Verify(VerifyJob),
    Turn {
        peer: PeerId,
        items: Vec<Item>,
    },
    ListUnsynced {
        upstream: downbeat_sync::UpstreamName,
        after: Option<CoValueId>,
        limit: usize,
    },
    ListStored {
        upstream: downbeat_sync::UpstreamName,
        after: Option<CoValueId>,
        limit: usize,
    },
    /// The writer takes a batch of jobs from the queue.
    Take,
    Append(WriteBatch<()>),
    Appended(WriteBatch<()>, Vec<Outcome>),
    /// A part of the content of deleted CoValues is erased.
    Erase,
    /// An event is delivered to the machine.
    Tell(Event),
}

/// The result of a look-up in storage.
type LookedUp = Result<Option<Box<Loaded>>, StorageFailed>;

impl World {
    pub(crate) fn new(seed: u64, bugs: Bugs, with_log: bool) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Scenario::new(&mut rng);
        let nodes = plan.nodes.iter().cloned().map(Node::new).collect();
        let mut world = Self {
            rng,
            now: 0,
            queue: BTreeMap::new(),
            scheduled: 0,
            steps: 0,
            people: Vec::new(),
            nodes,
            clients: Vec::new(),
            liars: Vec::new(),
            links: BTreeMap::new(),
            next_link: 0,
            dials: Vec::new(),
            values: Vec::new(),
            overheard: Vec::new(),
            suspect: BTreeSet::new(),
            refused: BTreeSet::new(),
            truth: Truth::default(),
            signatures: CachedSignatures::default(),
            healed: false,
            misfortunes: 0,
            bugs,
            log: Log::new(with_log),
            failure: None,
            plan,
        };
        world.populate();
        world
    }

    /// Runs the simulation to its end. Fails if a rule is broken.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.run_until_quiet()?;
        self.heal();
        self.run_until_quiet()?;
        // Each tick of a machine checks a limited number of entries.
        for _ in 0..TICKS_AT_LAST {
            self.tick_all();
            self.run_until_quiet()?;
        }
        self.check_end();
        self.failure.take().map_or(Ok(()), Err)
    }

    pub(crate) fn into_log(self) -> Vec<String> {
        self.log.into_lines()
    }

    fn run_until_quiet(&mut self) -> Result<(), String> {
        while let Some(((at, _), step)) = self.queue.pop_first() {
            self.now = self.now.max(at);
            self.steps += 1;
            self.step(step);
            if self.steps > MAX_STEPS {
                self.fail(|| "the run does not end".to_owned());
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
        }
        Ok(())
    }

    fn populate(&mut self) {
        self.log.line(0, || format!("{:#?}", self.plan));
        for node in 0..self.nodes.len() {
            self.start(node);
            for upstream in self.plan.nodes[node].upstreams.clone() {
                self.add_dial(End::Node(node), upstream);
            }
        }
        for (client, home) in self.plan.clients.clone().into_iter().enumerate() {
            let person = self.add_person();
            self.clients.push(Client::new(person, home));
            self.add_dial(End::Client(client), home);
            let left = self.plan.acts_per_client;
            self.act_later(client, left);
        }
        for (liar, home) in self.plan.liars.clone().into_iter().enumerate() {
            let person = self.add_person();
            self.liars.push(Liar::new(person));
            self.add_dial(End::Liar(liar), home);
            let left = self.plan.acts_per_liar;
            self.schedule(self.plan.pause, Step::Lie { liar, left });
        }
        self.schedule(self.plan.misfortune_pause, Step::Misfortune);
    }

    fn add_person(&mut self) -> usize {
        let number = self.people.len();
        let by_account = self.rng.percent(60);
        // There are far fewer than 256 people.
        let seed = u8::try_from(number).unwrap_or(u8::MAX);
        let person = Person::new(seed, by_account);
        self.log.name(person.account.as_str(), || format!("account{number}"));
        self.log.name(person.secret.agent().as_str(), || format!("agent{number}"));
        self.people.push(person);
        number
    }

    fn schedule(&mut self, delay: Millis, step: Step) {
        self.scheduled += 1;
        self.queue.insert((self.now.saturating_add(delay), self.scheduled), step);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Dial(dial) => self.dial(dial),
            Step::Deliver { link, to, message } => self.deliver(link, to, message),
            Step::Read { link, side } => self.read(link, side),
            Step::Lost { link, side } => self.lost(link, side),
            Step::Node { node, life, what } => {
                if self.nodes[node].up && self.nodes[node].life == life {
                    self.node_step(node, what);
                }
            }
            Step::Start(node) => self.start(node),
            Step::Act { client, left } => self.act(client, left),
            Step::Lie { liar, left } => self.lie(liar, left),
            Step::Misfortune => self.misfortune(),
        }
    }

    /// Records that a rule is broken. Only the first broken rule is kept.
    fn fail(&mut self, reason: impl FnOnce() -> String) {
        if self.failure.is_none() {
            let reason = format!("{}: {}", self.plan.shape, self.log.shorten(&reason()));
            self.log.line(self.now, || format!("BROKEN: {reason}"));
            self.failure = Some(reason);
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        self.log.line(self.now, line);
    }
}
