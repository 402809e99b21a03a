//! `cargo xtask crash`: the real server, killed, with damaged files, and on a full disk.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::steps::{self, Steps};
use crate::workspace::{Profile, binary, build, cargo};

/// What the full test command does of it: less than a minute.
const IN_TESTS: [&str; 4] = ["--kills", "8", "--places", "8"];

/// Kill the server at random moments, damage its files and take its room away: `cargo xtask crash
/// [--kills N] [--places N] [--storage sled|sqlite] [--seed S]`.
///
/// 100 kills and 200 damaged places for each kind of storage, unless said otherwise. What was
/// acknowledged must be there afterwards and verify, and nothing else may be.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// As `downbeat-crash` takes them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    steps::run(&mut build(Profile::Debug))?;
    steps::run(program()?.args(&arguments.arguments))
}

/// How many steps [`steps()`] takes.
pub(crate) const STEPS: usize = 2;

/// The steps of the full test command.
pub(crate) fn steps(steps: &mut Steps) -> Result<()> {
    steps.command("server to be killed", &mut build(Profile::Debug))?;
    steps.command("kills, damage and full disks", program()?.args(IN_TESTS))
}

/// Builds and runs the program of the `downbeat-crash` crate.
fn program() -> Result<Command> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "downbeat-crash", "--", "--binary"]);
    command.arg(binary(Profile::Debug)?);
    Ok(command)
}
