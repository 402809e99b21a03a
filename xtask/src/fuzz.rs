//! `cargo xtask fuzz`: feeds arbitrary bytes to the decoders and to ingestion.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::steps;
use crate::workspace::program;

/// How long each target is fuzzed by the full test command, in seconds.
const SECONDS_IN_TESTS: &str = "60";

/// How many targets the full test command fuzzes at a time. A slow case is a failure, so each
/// target needs its own processor.
const JOBS_IN_TESTS: &str = "2";

/// Fuzz the decoders and ingestion: `cargo xtask fuzz [TARGET]... [--seconds N] [--seed N]
/// [--input FILE]`.
///
/// Runs all targets for a minute each by default; `cargo xtask fuzz --help` lists them. A failing
/// input is minimised and kept, and the command to run it again is printed.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// The arguments of `downbeat-fuzz`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    steps::run(fuzzer().args(&arguments.arguments))
}

/// The step of the full test command.
pub(crate) fn step() -> Command {
    let mut command = fuzzer();
    command.args(["--seconds", SECONDS_IN_TESTS, "--jobs", JOBS_IN_TESTS]);
    command
}

/// Builds and runs the program of the `downbeat-fuzz` crate.
pub(crate) fn fuzzer() -> Command {
    program("downbeat-fuzz", "fuzz")
}
