//! The commands of this workspace that need more than one `cargo` call: `cargo xtask --help`.
//!
//! Each command is a module with a struct of its arguments and a `run`. Shared code is in `steps`
//! (a sequence of named child processes with headings and times), `server` (servers that a command
//! starts), `tools` (checks for installed programs), `npm` (the packages of the Node.js programs)
//! and `workspace` (paths and builds).

mod admin_page;
mod attack;
mod bench;
mod coverage_fuzz;
mod crash;
mod differential;
mod fuzz;
mod interop;
mod metrics;
mod npm;
mod power;
mod server;
mod simulate;
mod steps;
mod storm;
mod test;
mod tools;
mod words;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The commands of the Downbeat workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Test(test::Arguments),
    Interop(interop::Arguments),
    Differential(differential::Arguments),
    Fuzz(fuzz::Arguments),
    CoverageFuzz(coverage_fuzz::Arguments),
    Simulate(simulate::Arguments),
    Bench(bench::Arguments),
    Crash(crash::Arguments),
    Power(power::Arguments),
    Attack(attack::Arguments),
    AdminPage(admin_page::Arguments),
    Metrics(metrics::Arguments),
    Words(words::Arguments),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test(arguments) => test::run(&arguments),
        Command::Interop(arguments) => interop::run(&arguments),
        Command::Differential(arguments) => differential::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::CoverageFuzz(arguments) => coverage_fuzz::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Crash(arguments) => crash::run(&arguments),
        Command::Power(arguments) => power::run(&arguments),
        Command::Attack(arguments) => attack::run(&arguments),
        Command::AdminPage(arguments) => admin_page::run(&arguments),
        Command::Metrics(arguments) => metrics::run(&arguments),
        Command::Words(arguments) => words::run(&arguments),
        Command::Bench(arguments) => bench::run_benchmark(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
