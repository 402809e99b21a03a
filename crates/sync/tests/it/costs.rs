//! The cost of events and forgotten CoValues, in allocations. Unlike time, allocations are the same
//! in every run, so an increase shows at once. The benches measure time.

#[allow(dead_code, reason = "the clocks are the bench's")]
#[path = "../../benches/traffic/play.rs"]
mod play;
#[path = "../../benches/memory/world.rs"]
mod world;

use allocation_counter::AllocationInfo;
use downbeat_sync::Config;

use play::{Size, Traffic};
use world::World;

/// The active part of all these worlds.
const ACTIVE: Size = Size { peers: 20, values: 200, idle_peers: 0, idle_values: 0 };

/// After this many events, everything active is warm.
const WARM_UP: usize = 10_000;

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
