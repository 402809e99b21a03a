//! `cargo xtask crash`: kills the real server, damages its files, and fills its disk.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::steps::{self, Steps};
use crate::workspace::{Profile, binary, build, program};

/// The short version for the full test command: about a minute.
const IN_TESTS: [&str; 4] = ["--kills", "5", "--places", "5"];

/// Kill the server at random times, damage its files and fill its disk: `cargo xtask crash
/// [--kills N] [--places N] [--storage sled|sqlite|native] [--seed S]`.
///
/// Runs 100 kills and 200 damaged places for each kind of storage by default. Afterwards the store
/// must have all acknowledged content, valid, and no other content.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// The arguments of `downbeat-crash`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    steps::run(&mut build(Profile::Debug))?;
    steps::run(crash()?.args(&arguments.arguments))
}

/// The number of steps in [`steps()`].
pub(crate) const STEPS: usize = 2;

/// The steps of the full test command.
pub(crate) fn steps(steps: &mut Steps) -> Result<()> {
    steps.command("server to be killed", &mut build(Profile::Debug))?;
    steps.command("kills, damage and full disks", crash()?.args(IN_TESTS))
}

/// Builds and runs the program of the `downbeat-crash` crate.
pub(crate) fn crash() -> Result<Command> {
    let mut command = program("downbeat-crash", "dev");
    command.arg("--binary").arg(binary(Profile::Debug)?);
    Ok(command)
}
