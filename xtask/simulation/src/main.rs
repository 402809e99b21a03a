//! Runs seeds of the simulation: `cargo xtask simulate`.

use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use clap::Parser;
use downbeat_simulation::{Outcome, replay, run_all};

/// The maximum number of failing seeds to list.
const MAX_LISTED: usize = 100;

/// Run seeds of the simulation.
#[derive(Parser)]
#[command(name = "cargo xtask simulate", bin_name = "cargo xtask simulate")]
struct Arguments {
    /// Number of seeds to run.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run this seed only.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// With `--seed`: print the log even if no rule is broken.
    #[arg(long, requires = "seed")]
    log: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        return run_one(seed, arguments.log);
    }
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let started = Instant::now();
    let summary = run_all(arguments.from, arguments.seeds, threads);
    let seconds = started.elapsed().as_secs_f64();
    if let Some(first) = summary.failures.first() {
        print_log(first);
    }
    for failure in summary.failures.iter().take(MAX_LISTED) {
        println!("seed {}: {}", failure.seed, failure.broken.as_deref().unwrap_or_default());
    }
    #[allow(clippy::cast_precision_loss, reason = "for people to read")]
    let rate = arguments.seeds as f64 / seconds;
    println!(
        "{} seeds, {} failed, {} steps, {seconds:.1} s, {rate:.0} seeds a second",
        arguments.seeds,
        summary.failures.len(),
        summary.steps
    );
    if summary.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_one(seed: u64, with_log: bool) -> ExitCode {
    let outcome = replay(seed);
    if with_log || outcome.broken.is_some() {
        print_log(&outcome);
    }
    match &outcome.broken {
        Some(broken) => println!("seed {seed}: {broken}"),
        None => println!("seed {seed}: no rule is broken, {} steps", outcome.steps),
    }
    if outcome.broken.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_log(outcome: &Outcome) {
    for line in &outcome.log {
        println!("{line}");
    }
    println!("again: cargo xtask simulate --seed {}", outcome.seed);
}
