//! Whether the cost of an event grows with what it does not touch: with the entries in memory, with
//! busy entries beyond the bound, with the entries of a reconcile message, with other subscribers
//! of the same CoValue.
//!
//! Only the machine is timed, in processor time. Run with
//! `cargo bench -p downbeat-sync --bench scaling_entries`. Each line has the time for few and for
//! many, which should be the same within a factor of two. (The processor's caches are a part of
//! it.)

use std::time::Duration;

use downbeat_crypto::header_id;
use downbeat_protocol::{
    CoValueId, Content, Header, KnownState, Message, Reconcile, Ruleset, SessionContent, SessionId,
    ShortHash, Signature, Transaction,
};
use downbeat_sync::{Action, Config, Event, Machine, PeerId, PeerRole, UpstreamName};
use rustix::time::{ClockId, clock_gettime};

/// Events of a measurement.
const EVENTS: usize = 20_000;

/// Measurements. The best one counts, because other programs can only make it worse.
const RUNS: usize = 5;

/// The client that makes all requests.
const CLIENT: PeerId = PeerId(0);

fn main() {
    // The test runner asks every bench target for its tests.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    print("LOAD beside entries in memory", load_beside, [10_000, 1_000_000]);
    print("LOAD beside busy entries, twice the bound", load_beside_busy, [10_000, 1_000_000]);
    print("entry of reconcile messages", reconcile, [10_000, 500_000]);
    print("one of many subscribers leaves", leave, [10_000, 100_000]);
    println!("events that are handled in one go:");
    print_once("LOAD that claims 100,000 sessions", large_claim);
    print_once("an upstream connects, 1,000,000 in memory", upstream);
    print_once("storage answers, 10,000 clients wait", answer_many);
    print_once("a group with 14,000 unknown parents", many_parents);
}

/// Prints the time for one event.
fn print_once(what: &str, measure: fn() -> Duration) {
    let best = (0..RUNS).map(|_| measure()).min().unwrap_or_default();
    println!("{what:<42} {:>8.1} ms", best.as_secs_f64() * 1_000.0);
}

/// Prints the nanoseconds for one event at each of two sizes.
#[allow(clippy::cast_precision_loss, reason = "a few million")]
fn print(what: &str, measure: fn(usize) -> (usize, Duration), sizes: [usize; 2]) {
    let nanos = sizes.map(|size| {
        let times = (0..RUNS).map(|_| {
            let (events, time) = measure(size);
            time.as_nanos() as f64 / events as f64
        });
        times.fold(f64::INFINITY, f64::min)
    });
    let [few, many] = sizes;
    println!(
        "{what:<42} {few:>7}: {:>6.0} ns   {many:>9}: {:>6.0} ns   {:.2}",
        nanos[0],
        nanos[1],
        nanos[1] / nanos[0]
    );
}

fn load_beside(entries: usize) -> (usize, Duration) {
    let config = Config { warm_co_values: usize::MAX, warm_bytes: u64::MAX, ..Config::default() };
    let mut world = World::new(config);
    for number in 0..entries {
        world.load(number, true);
    }
    let time = timed(|| (entries..entries + EVENTS).for_each(|number| world.load(number, true)));
    (EVENTS, time)
}

fn load_beside_busy(entries: usize) -> (usize, Duration) {
    let mut world = World::new(Config { warm_co_values: entries / 2, ..Config::default() });
    for number in 0..entries {
        // Storage does not answer.
        world.load(number, false);
    }
    // Its LOADs would wait for those.
    world.connect(PeerId(1));
    let range = entries..entries + EVENTS;
    let time = timed(|| range.for_each(|number| world.load_of(PeerId(1), number, true)));
    (EVENTS, time)
}

fn reconcile(entries: usize) -> (usize, Duration) {
    const MESSAGE: usize = 10_000;
    let mut world = World::new(Config::default());
    let time = timed(|| {
        for from in (0..entries).step_by(MESSAGE) {
            let values = (from..from + MESSAGE).map(|number| (id(number), hash())).collect();
            let message = Message::Reconcile(Reconcile { id: "batch".to_owned(), values });
            world.machine.handle(0, Event::Received { peer: CLIENT, message });
            world.settle(true);
        }
    });
    (entries, time)
}

fn leave(subscribers: usize) -> (usize, Duration) {
    let mut world = World::new(Config::default());
    for number in 0..subscribers {
        let peer = PeerId(number as u64 + 1);
        world.connect(peer);
        world.load_of(peer, 0, true);
    }
    let leavers = subscribers.min(1_000);
    let time = timed(|| {
        for number in 0..leavers {
            let peer = PeerId((number * (subscribers / leavers)) as u64 + 1);
            world.machine.handle(0, Event::Disconnected(peer));
            world.settle(true);
        }
    });
    (leavers, time)
}

fn large_claim() -> Duration {
    let mut world = World::new(Config::default());
    world.load(0, true);
    let session = |number| {
        let text = format!("co_z1_session_z{number:b}").replace('0', "a");
        (SessionId::parse(&text).expect("a session"), 1)
    };
    let sessions = (1..=100_000_u32).map(session).collect();
    let message = Message::Load(KnownState { id: id(0), header: true, sessions });
    timed(|| {
        world.machine.handle(0, Event::Received { peer: CLIENT, message });
        world.settle(true);
    })
}

fn upstream() -> Duration {
    let config = Config { warm_co_values: usize::MAX, warm_bytes: u64::MAX, ..Config::default() };
    let mut world = World::new(config);
    for number in 0..1_000_000 {
        world.load(number, true);
    }
    let role = PeerRole::Upstream(UpstreamName::new("up").expect("a name"));
    timed(|| world.machine.handle(0, Event::Connected { peer: PeerId(1), role }))
}

fn answer_many() -> Duration {
    let mut world = World::new(Config::default());
    for number in 1..=10_000 {
        world.connect(PeerId(number));
        world.load_of(PeerId(number), 0, false);
    }
    timed(|| {
        world.machine.handle(0, Event::Loaded { id: id(0), result: Ok(None) });
        world.settle(true);
    })
}

fn many_parents() -> Duration {
    let mut world = World::new(Config::default());
    let agent = "sealer_zHW3u6Pe2QXwAsu4FpA69XAYan1yyeB8uSdtZYf8rdL7y/\
                 signer_zJ1S3Sr5HrFqyVoQvq5WLfs3hcbQHJaBbkVkDtEpW23dF";
    let header = Header::builder("comap", Ruleset::Group { initial_admin: agent.parse().unwrap() });
    let header = header.build().expect("a valid header");
    let change =
        |number| format!(r#"{{"key":"parent_{}","op":"set","value":"extend"}}"#, id(number));
    let changes: Vec<String> = (0..14_000).map(change).collect();
    let changes = format!("[{}]", changes.join(","));
    let run = SessionContent {
        session: SessionId::parse(&format!("{agent}_session_z1")).expect("a session"),
        after: 0,
        transactions: vec![Transaction::trusting(&changes, 1, None)],
        last_signature: Signature::from_bytes(&[7; 64]),
    };
    let message = Message::Content(Content {
        id: header_id(&header),
        priority: header.priority(),
        header: Some(header),
        sessions: vec![run],
        malformed: Vec::new(),
        expect_content_until: None,
    });
    timed(|| {
        world.machine.handle(0, Event::Received { peer: CLIENT, message });
        world.settle(true);
    })
}

/// A machine over an empty storage.
struct World {
    machine: Machine,
    actions: Vec<Action>,
}

impl World {
    fn new(config: Config) -> Self {
        let mut world = Self { machine: Machine::new(config), actions: Vec::new() };
        world.connect(CLIENT);
        world
    }

    fn connect(&mut self, peer: PeerId) {
        self.machine.handle(0, Event::Connected { peer, role: PeerRole::Client });
    }

    fn load(&mut self, number: usize, answers_loads: bool) {
        self.load_of(CLIENT, number, answers_loads);
    }

    fn load_of(&mut self, peer: PeerId, number: usize, answers_loads: bool) {
        let message = Message::Load(KnownState::empty(id(number)));
        self.machine.handle(0, Event::Received { peer, message });
        self.settle(answers_loads);
    }

    /// Carries actions out until there are no more.
    fn settle(&mut self, answers_loads: bool) {
        loop {
            self.machine.poll(&mut self.actions);
            if self.actions.is_empty() && self.machine.deadline() != Some(0) {
                return;
            }
            for action in self.actions.drain(..) {
                match action {
                    Action::Load(id) if answers_loads => {
                        self.machine.handle(0, Event::Loaded { id, result: Ok(None) });
                    }
                    Action::Turn { peer, .. } => {
                        self.machine.handle(0, Event::TurnDone { peer, progress: Vec::new() });
                    }
                    _ => {}
                }
            }
        }
    }
}

fn id(number: usize) -> CoValueId {
    let mut hash = [1; 19];
    // So that neighbours are not neighbours in the tables.
    let scattered = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash[..8].copy_from_slice(&scattered.to_be_bytes());
    CoValueId::from_short_hash(&hash)
}

fn hash() -> ShortHash {
    ShortHash::from_bytes([7; 19])
}

fn timed(run: impl FnOnce()) -> Duration {
    let started = processor_time();
    run();
    processor_time().saturating_sub(started)
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
