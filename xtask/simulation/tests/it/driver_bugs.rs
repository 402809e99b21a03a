//! The simulation finds bugs in the driver: with each injected bug, some seed breaks a rule.

use downbeat_driver::DriverBug;
use downbeat_simulation::run_with_driver_bug;

/// The number of seeds in which each bug must be found.
const SEEDS: u64 = 1_000;

#[track_caller]
fn is_found(bug: DriverBug) {
    let broken = |seed| run_with_driver_bug(seed, bug).broken.map(|by| (seed, by));
    let (seed, by) = (0..SEEDS).find_map(broken).expect("a rule is broken");
    println!("{bug:?}: seed {seed}: {by}");
}

#[test]
fn overcount_durable_is_found() {
    is_found(DriverBug::OvercountDurable);
}

#[test]
fn ignore_conflict_is_found() {
    is_found(DriverBug::IgnoreConflict);
}

#[test]
fn drop_tombstone_is_found() {
    is_found(DriverBug::DropTombstone);
}

#[test]
fn skip_dependency_is_found() {
    is_found(DriverBug::SkipDependency);
}

#[test]
fn swap_outcomes_is_found() {
    is_found(DriverBug::SwapOutcomes);
}
