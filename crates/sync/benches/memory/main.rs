//! The memory for a CoValue: warm, and forgotten.
//!
//! Run with `cargo bench -p downbeat-sync --bench memory`.

mod world;

use downbeat_sync::Config;
use peak_alloc::PeakAlloc;

use world::World;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// CoValues that one client is subscribed to.
const VALUES_PER_PEER: usize = 1_000;

/// CoValues that stay in memory when nearly all are forgotten.
const FEW: usize = 1_000;

fn main() {
    // The test runner asks every bench target for its tests.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let few = Config { warm_co_values: FEW, ..Config::default() };
    let all = Config::default();
    println!("bytes per CoValue, each with one session and loaded by one client:");
    println!("  100,000, all warm:                    {:>5.0}", cost(100_000, all, true));
    println!("  the same, the clients gone:           {:>5.0}", cost(100_000, all, false));
    println!("  1,000,000, all but 1,000 forgotten:   {:>5.0}", cost(1_000_000, few, true));
    println!("  the same, the clients gone:           {:>5.0}", cost(1_000_000, few, false));
}

/// Bytes of the machine's memory for each CoValue that a client has loaded.
#[allow(clippy::cast_precision_loss, reason = "at most a few gigabytes")]
fn cost(values: usize, config: Config, clients_stay: bool) -> f64 {
    let before = MEMORY.current_usage();
    let mut world = World::new(config, VALUES_PER_PEER);
    world.load_all(values);
    if !clients_stay {
        world.disconnect_all();
    }
    let used = MEMORY.current_usage().saturating_sub(before);
    used as f64 / values as f64
}
