//! The processor time of a write to a CoValue of few and of very many sessions: the machine's work for the
//! author's message, its verification, its store, and the turns and acknowledgements of all
//! subscribers. It should be about the same for any number of sessions.
//!
//! Run with `cargo bench -p downbeat-sync --bench sessions`.

mod world;

use std::time::Duration;

use world::{Size, World};

/// Runs for each size. The best one counts, because other programs can only make it worse.
const RUNS: usize = 10;

fn main() {
    // The test runner asks every bench target for its tests.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    println!("time per write to a CoValue of 10, 1,000 and 100,000 sessions:");
    report("alone", 0, 0, 2_000, World::write);
    report("with 50 subscribers", 50, 0, 200, World::write);
    report("and 50 claims of other sessions", 50, 50, 200, World::write);
    println!("time for the first session of one more account:");
    report("with 50 subscribers", 50, 0, 100, World::add_author);
    println!("time per KNOWN with one session, of a client that claims other sessions:");
    report("alone", 0, 1, 2_000, |world| world.state_one(1));
    println!("time per entry of a reconcile message with another hash:");
    report("alone", 1, 0, 2_000, |world| world.reconcile(1));
}

fn report(name: &str, subscribers: usize, claimants: usize, count: u32, act: fn(&mut World)) {
    let times = [10, 1_000, 100_000].map(|sessions| {
        let mut world = World::new(Size { sessions, subscribers, claimants });
        best(|| act(&mut world), count)
    });
    let [few, more, very_many] = times.map(|time| time.as_nanos());
    println!("  {name:<34} {few:>8} ns {more:>8} ns {very_many:>8} ns");
}

/// The time of one call, on average over the best of several rounds of calls.
fn best(mut act: impl FnMut(), count: u32) -> Duration {
    let mut round = || {
        let started = processor_time();
        for _ in 0..count {
            act();
        }
        processor_time().saturating_sub(started) / count
    };
    round();
    (0..RUNS).map(|_| round()).min().unwrap_or_default()
}

/// The processor time of this thread.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
