//! Running seeds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use downbeat_driver::DriverBug;
use downbeat_sync::InjectedBug;

use crate::world::{Bugs, World};

/// The result of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The broken rule, if there is one.
    pub broken: Option<String>,
    /// The log of the run, if it was requested.
    pub log: Vec<String>,
    /// The number of steps.
    pub steps: u64,
}

/// The results of many seeds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The seeds that broke a rule, in order, with the log of the first.
    pub failures: Vec<Outcome>,
    /// The number of steps of all seeds.
    pub steps: u64,
}

/// Runs one seed.
pub fn run(seed: u64) -> Outcome {
    simulate(seed, Bugs::default(), false)
}

/// Runs one seed with a bug in the machine of all nodes.
pub fn run_with_fault(seed: u64, fault: InjectedBug) -> Outcome {
    simulate(seed, Bugs { machine: Some(fault), ..Bugs::default() }, false)
}

/// Runs one seed with a bug in the driver of all nodes.
pub fn run_with_driver_bug(seed: u64, bug: DriverBug) -> Outcome {
    simulate(seed, Bugs { driver: Some(bug), ..Bugs::default() }, false)
}

/// Runs one seed, and keeps the log.
pub fn replay(seed: u64) -> Outcome {
    simulate(seed, Bugs::default(), true)
}

/// Runs `count` seeds, starting with `from`, on this number of threads.
pub fn run_all(from: u64, count: u64, threads: usize) -> Summary {
    let next = AtomicU64::new(from);
    let end = from.saturating_add(count);
    let summary = Mutex::new(Summary::default());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = run(seed);
                    let mut summary =
                        summary.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    summary.steps += outcome.steps;
                    if outcome.broken.is_some() {
                        summary.failures.push(outcome);
                    }
                }
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    summary.failures.sort_by_key(|failure| failure.seed);
    if let Some(first) = summary.failures.first_mut() {
        *first = replay(first.seed);
    }
    summary
}

fn simulate(seed: u64, bugs: Bugs, with_log: bool) -> Outcome {
    let mut world = World::new(seed, bugs, with_log);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let broken = match result {
        Ok(result) => result.err(),
        Err(panic) => Some(format!("a panic: {}", message_of(&*panic))),
    };
    let steps = world.steps;
    Outcome { seed, broken, log: world.into_log(), steps }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
