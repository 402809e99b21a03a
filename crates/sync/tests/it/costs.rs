//! The cost of events and forgotten CoValues, in allocations. Unlike time, allocations are the same
//! in every run, so an increase shows at once. The benches measure time.

#[allow(dead_code, reason = "the clocks are the bench's")]
#[path = "../../benches/traffic/play.rs"]
mod play;
#[path = "../../benches/memory/world.rs"]
mod world;

use allocation_counter::AllocationInfo;
use downbeat_protocol::{
    CoValueId, KnownState, Message, Reconcile, SessionCounts, SessionId, ShortHash,
};
use downbeat_sync::{Action, Config, Event, Machine, PeerId, PeerRole};

use play::{Size, Traffic};
use world::World;

/// The active part of all these worlds.
const ACTIVE: Size = Size { peers: 20, values: 200, idle_peers: 0, idle_values: 0 };

/// After this many events, everything active is warm.
const WARM_UP: usize = 10_000;

/// The client in worlds with one.
const PEER: PeerId = PeerId(1);

/// Measured events.
const EVENTS: usize = 20_000;

/// Allocations of the machine for 1,000 events.
fn allocations(size: Size) -> u64 {
    let mut traffic = Traffic::new(size, Config::default());
    traffic.run_untimed(WARM_UP);
    let mut total = 0;
    let events = traffic.rounds(EVENTS, |machine, round, actions| {
        let AllocationInfo { count_total, .. } = allocation_counter::measure(|| {
            play::handle_round(machine, round, actions);
        });
        total += count_total;
    });
    total * 1_000 / u64::try_from(events).expect("there are 20,000")
}

#[test]
fn an_event_costs_few_allocations() {
    /// The measured number, and a twentieth. Raise it only for a good reason, and lower it when
    /// fewer are needed.
    const BOUND: u64 = 4_070;

    let allocations = allocations(ACTIVE);
    assert!(allocations <= BOUND, "{allocations} allocations for 1,000 events");
}

#[test]
fn idle_peers_and_values_cost_an_event_nothing() {
    let alone = allocations(ACTIVE);
    for idle in [200, 2_000] {
        let beside = allocations(Size { idle_peers: idle, idle_values: idle, ..ACTIVE });
        // Tables and queues grow at other moments.
        assert!(beside.abs_diff(alone) <= alone / 50, "{beside} beside {idle}, {alone} alone");
    }
}

/// The bytes that a machine allocates for events, and the bytes of its own account, without what
/// forgotten CoValues leave.
fn allocated_and_counted(config: Config, events: &mut dyn Iterator<Item = Event>) -> (u64, u64) {
    let mut machine = None;
    let info = allocation_counter::measure(|| {
        let machine = machine.insert(Machine::new(config));
        let mut actions = Vec::new();
        machine.handle(0, Event::Connected { peer: PEER, role: PeerRole::Client });
        for event in events {
            machine.handle(0, event);
            machine.poll(&mut actions);
            for action in actions.drain(..) {
                if let Action::Turn { peer, .. } = action {
                    machine.handle(0, Event::TurnDone { peer, progress: Vec::new() });
                }
            }
        }
        machine.poll(&mut actions);
    });
    let allocated = u64::try_from(info.bytes_current).unwrap_or_default();
    (allocated, machine.map_or(0, |machine| machine.memory().total()))
}

#[test]
fn the_account_of_memory_covers_what_is_allocated() {
    /// The tables for them are nearly full. On average they are three quarters full.
    const VALUES: u32 = 7_000;
    let id = |number: u32| {
        let mut hash = [1; 19];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        CoValueId::from_short_hash(&hash)
    };
    let counts = |sessions: u32| -> SessionCounts {
        let name = |number| format!("co_z1_session_z{number:b}").replace('0', "a");
        (1..=sessions).map(|number| (SessionId::parse(&name(number)).unwrap(), 1)).collect()
    };
    let load = |number, sessions| {
        let state = KnownState { id: id(number), header: true, sessions };
        Event::Received { peer: PEER, message: Message::Load(state) }
    };
    let absent = |number| Event::Loaded { id: id(number), result: Ok(None) };
    let loads = || (0..VALUES).flat_map(|number| [load(number, counts(3)), absent(number)]);
    let claims = (0..20).flat_map(|number| [load(number, counts(2_000)), absent(number)]);
    let reconcile = || {
        let hash = ShortHash::from_bytes([7; 19]);
        let values = (0..VALUES).map(|number| (id(number), hash)).collect();
        let message = Message::Reconcile(Reconcile { id: "x".repeat(1_000), values });
        Event::Received { peer: PEER, message }
    };
    let forgets = Config { warm_co_values: 0, ..Config::default() };
    // The events are made when they are handled, so that what is kept of them is counted.
    let kinds: [(&str, Config, &mut dyn Iterator<Item = Event>); 4] = [
        ("entries", Config::default(), &mut loads()),
        ("subscriptions", forgets, &mut loads()),
        ("claims", forgets, &mut { claims }),
        ("batches", forgets, &mut (0..10).map(|_| reconcile())),
    ];
    for (kind, config, events) in kinds {
        let (allocated, counted) = allocated_and_counted(config, events);
        println!("{kind}: {allocated} allocated, {counted} counted");
        assert!(allocated <= counted, "{kind}: {allocated} allocated, {counted} counted");
        assert!(counted <= 3 * allocated, "{kind}: {allocated} allocated, {counted} counted");
    }
}

#[test]
fn a_forgotten_covalue_with_a_subscriber_costs_less_than_200_bytes() {
    /// Enough to fill more than half of the tables for them and for each client.
    const VALUES: i64 = 16 * VALUES_PER_PEER;
    const VALUES_PER_PEER: i64 = 1_000;

    let number = |count: i64| usize::try_from(count).expect("it is small");
    // Just enough to forget nothing before the client has acknowledged it.
    let config = Config { warm_co_values: 10, ..Config::default() };
    let mut world = None;
    let info = allocation_counter::measure(|| {
        let world = world.insert(World::new(config, number(VALUES_PER_PEER)));
        world.load_all(number(VALUES));
    });
    let bytes = info.bytes_current / VALUES;
    assert!(bytes < 200, "{bytes} bytes");

    let world = world.as_mut().expect("it has just been made");
    let info = allocation_counter::measure(|| world.disconnect_all());
    let left = bytes + info.bytes_current / VALUES;
    assert!(left < 100, "{left} bytes when the clients are gone");
}
