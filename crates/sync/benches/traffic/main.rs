//! How many events the machine handles on one core. The world around it is simulated: checks,
//! stores and look-ups are done at once, and every peer has room.
//!
//! Only the machine is timed, in rounds like those of the runtime. Processor time is measured, so
//! that other programs have little effect. Run with
//! `cargo bench -p downbeat-sync --bench traffic`.
//!
//! With the argument `count` the same events are handled without a clock, to count their
//! instructions: `docs/benchmarks.md` has the command.

mod play;

use std::time::Duration;

use downbeat_sync::Config;

use play::{Size, Traffic};

/// Events per measurement; a few seconds' worth.
const EVENTS: usize = 2_000_000;

/// Events before a measurement, after which all that is active is warm.
const WARM_UP: usize = 300_000;

/// Events whose instructions are counted, on request.
const COUNTED: usize = 200_000;

/// Measurements. The best one counts, because other programs can only make it worse.
const RUNS: usize = 40;

/// The size of the project's performance target.
const MIXED: Size = Size { peers: 1_000, values: 10_000, idle_peers: 0, idle_values: 0 };

/// The active part, beside a growing idle part.
const ACTIVE: Size = Size { peers: 100, values: 1_000, idle_peers: 0, idle_values: 0 };

fn main() {
    // The test runner asks every bench target for its tests.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    if std::env::args().any(|argument| argument == "count") {
        let mut traffic = Traffic::new(MIXED, Config::default());
        traffic.run_untimed(WARM_UP);
        println!("{} events", traffic.run_counted(COUNTED));
        return;
    }
    let (rate, mix) = measure(MIXED);
    println!("mixed traffic, {} CoValues, {} peers", MIXED.values, MIXED.peers);
    println!("  {rate:.0} events/s");
    for (kind, count, time) in mix {
        println!("  {kind:<28} {count:>9}  {:>7.0} ns each", nanos(time, count));
    }
    println!(
        "the same active traffic ({} CoValues, {} peers) beside idle ones",
        ACTIVE.values, ACTIVE.peers
    );
    for idle in [1_000, 10_000, 100_000] {
        let size = Size { idle_values: idle, idle_peers: idle, ..ACTIVE };
        let (rate, _) = measure(size);
        println!("  {idle:>7} idle CoValues and peers: {:.0} ns per event", 1e9 / rate);
    }
}

/// Events per second, and the time for each kind in a run of its own, where every event is timed.
fn measure(size: Size) -> (f64, Vec<(&'static str, usize, Duration)>) {
    let mut traffic = Traffic::new(size, Config::default());
    traffic.run(WARM_UP);
    let mut rates: Vec<f64> = (0..RUNS)
        .map(|_| {
            let (events, time) = traffic.run(EVENTS / RUNS);
            #[allow(clippy::cast_precision_loss, reason = "a few million")]
            let events = events as f64;
            events / time.as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    (rates[RUNS - 1], traffic.run_by_kind(WARM_UP))
}

#[allow(clippy::cast_precision_loss, reason = "a few million")]
fn nanos(time: Duration, count: usize) -> f64 {
    time.as_nanos() as f64 / count.max(1) as f64
}
