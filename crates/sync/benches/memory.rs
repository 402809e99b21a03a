//! What a CoValue costs in memory: warm, and when it has been forgotten.
//!
//! Run with `cargo bench -p downbeat-sync --bench memory`.

use bytes::Bytes;
use downbeat_crypto::{AgentSecret, header_id, session_id};
use downbeat_protocol::{
    CoValueId, Header, Known, KnownState, Limits, Message, Owner, SessionCounts, SessionId,
};
use downbeat_sync::{Action, Config, Event, Item, Loaded, Machine, PeerId, Role};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// CoValues that one client is subscribed to.
const VALUES_PER_PEER: usize = 1_000;

/// Transactions in the one session of each CoValue.
const TRANSACTIONS: u64 = 5;

fn main() {
    // The test runner asks every bench target for its tests.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let few = Config { warm_co_values: 10_000, ..Config::default() };
    let all = Config::default();
    println!("bytes per CoValue, each with one session and loaded by one client:");
    println!("  100,000, all warm:                        {:>5.0}", cost(100_000, all, true));
    println!("  the same, the clients gone:               {:>5.0}", cost(100_000, all, false));
    println!("  1,000,000, all but 10,000 forgotten:      {:>5.0}", cost(1_000_000, few, true));
    println!("  the same, the clients gone:               {:>5.0}", cost(1_000_000, few, false));
}

/// Bytes that the machine has for each CoValue that a client has loaded.
#[allow(clippy::cast_precision_loss, reason = "at most a few gigabytes")]
fn cost(values: usize, config: Config, clients_stay: bool) -> f64 {
    let before = MEMORY.current_usage();
    let mut world = World::new(config);
    for number in 0..values {
        world.load(number);
    }
    if !clients_stay {
        for peer in 0..values.div_ceil(VALUES_PER_PEER) {
            world.machine.handle(0, Event::Disconnected(peer_id(peer)));
        }
    }
    world.settle();
    world.actions = Vec::new();
    let used = MEMORY.current_usage().saturating_sub(before);
    used as f64 / values as f64
}

/// A machine with a client that loads and a storage that has everything.
struct World {
    machine: Machine,
    actions: Vec<Action>,
    session: SessionId,
    header: Option<Header>,
}

impl World {
    fn new(config: Config) -> Self {
        let agent = AgentSecret::from_secret_seed(&[1; 32]).agent();
        Self {
            machine: Machine::new(config),
            actions: Vec::new(),
            session: session_id(&Owner::Agent(agent), [1; 8]),
            header: None,
        }
    }

    /// A client loads the CoValue with a number, and acknowledges it.
    fn load(&mut self, number: usize) {
        let peer = peer_id(number / VALUES_PER_PEER);
        if number.is_multiple_of(VALUES_PER_PEER) {
            self.machine.handle(0, Event::Connected { peer, role: Role::Client });
        }
        let json = format!(
            r#"{{"createdAt":null,"meta":null,"ruleset":{{"type":"unsafeAllowAll"}},"type":"comap","uniqueness":"z{number}"}}"#
        );
        let header = Header::parse(&Bytes::from(json), &Limits::default())
            .expect("the header is well formed");
        let message = Message::Load(KnownState::empty(header_id(&header)));
        self.header = Some(header);
        self.machine.handle(0, Event::Received { peer, message });
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            self.machine.poll(&mut self.actions);
            if self.actions.is_empty() {
                return;
            }
            for action in std::mem::take(&mut self.actions) {
                match action {
                    Action::Load(id) => {
                        let result =
                            Ok(self.header.take().map(|header| Box::new(self.stored(header))));
                        self.machine.handle(0, Event::Loaded { id, result });
                    }
                    Action::Turn { peer, items } => {
                        self.machine.handle(0, Event::TurnDone { peer, progress: Vec::new() });
                        for item in items {
                            if let Item::Content(item) = item {
                                self.acknowledge(peer, item.id, item.until);
                            }
                        }
                    }
                    other => panic!("nothing but look-ups and turns is to be done: {other:?}"),
                }
            }
        }
    }

    fn acknowledge(&mut self, peer: PeerId, id: CoValueId, sessions: SessionCounts) {
        let state = KnownState { id, header: true, sessions };
        let known = Known { state, is_correction: false, as_dependency_of: None };
        self.machine.handle(0, Event::Received { peer, message: Message::Known(known) });
    }

    /// The header is what a storage gives: bytes of its own.
    fn stored(&self, header: Header) -> Loaded {
        Loaded {
            header,
            sessions: SessionCounts::from_iter([(self.session.clone(), TRANSACTIONS)]),
            dependencies: Vec::new(),
            deleted: false,
        }
    }
}

fn peer_id(number: usize) -> PeerId {
    PeerId(u64::try_from(number).unwrap_or(u64::MAX))
}
