//! What events and forgotten CoValues cost, in allocations: unlike time they are the same at every
//! run, so that what makes them more is seen at once. The benches tell the time.

#[allow(dead_code, reason = "the clocks are the bench's")]
#[path = "../../benches/traffic/play.rs"]
mod play;
#[path = "../../benches/memory/world.rs"]
mod world;

use allocation_counter::AllocationInfo;
use downbeat_sync::Config;

use play::{Size, Traffic};
use world::World;

/// What is active in all of these.
const ACTIVE: Size = Size { peers: 20, values: 200, idle_peers: 0, idle_values: 0 };

/// After these events everything active is warm.
const WARM_UP: usize = 10_000;

/// Events that are measured.
const EVENTS: usize = 20_000;

/// Allocations of the machine for each thousand of the events.
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
    /// As measured when this was written, and a twentieth. Where more are needed for a good
    /// reason, this is to be raised; where fewer are, lowered.
    const BOUND: u64 = 4_070;

    let allocations = allocations(ACTIVE);
    assert!(allocations <= BOUND, "{allocations} allocations for 1,000 events");
}

#[test]
fn what_has_nothing_to_do_with_an_event_costs_nothing() {
    let alone = allocations(ACTIVE);
    for idle in [200, 2_000] {
        let beside = allocations(Size { idle_peers: idle, idle_values: idle, ..ACTIVE });
        // Tables and queues grow at other moments.
        assert!(beside.abs_diff(alone) <= alone / 50, "{beside} beside {idle}, {alone} alone");
    }
}

#[test]
fn a_forgotten_covalue_with_a_subscriber_costs_less_than_200_bytes() {
    /// So many that the tables for them and for each client are not half full.
    const VALUES: i64 = 16 * VALUES_PER_PEER;
    const VALUES_PER_PEER: i64 = 1_000;

    let number = |count: i64| usize::try_from(count).expect("it is small");
    // Just so many that nothing is forgotten before the client has acknowledged it.
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
