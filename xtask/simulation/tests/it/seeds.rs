//! Many seeds break no rule, and each seed gives the same run every time.

use std::thread;

use downbeat_simulation::{replay, run, run_all};

/// The number of seeds. They take well under a minute.
const SEEDS: u64 = 1_000;

#[test]
fn a_thousand_seeds_break_no_rule() {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let summary = run_all(0, SEEDS, threads);
    if let Some(first) = summary.failures.first() {
        for line in &first.log {
            println!("{line}");
        }
    }
    let broken: Vec<_> =
        summary.failures.iter().map(|failure| (failure.seed, &failure.broken)).collect();
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn a_seed_is_the_same_each_time() {
    for seed in 0..20 {
        let first = replay(seed);
        assert_eq!(first, replay(seed));
        assert_eq!(first.steps, run(seed).steps);
        assert!(!first.log.is_empty());
    }
}
