//! `cargo xtask power`: checks stores after power failures.

use anyhow::Result;
use clap::Args;

use crate::crash;
use crate::steps::{self, Steps};
use crate::workspace::{Profile, build};

/// The short version for the full test command: about a minute.
const IN_TESTS: [&str; 4] = ["--cuts", "12", "--steps", "40"];

/// Cut the power of the real server at many of its calls, and check the store: `cargo xtask power
/// [--cuts N] [--steps N] [--storage sled|sqlite|native] [--seed S]`.
///
/// Records the server, and builds directories as a disk may hold them after a power failure, with
/// and without unflushed changes: 200 power failures for each kind of storage by default. Each store
/// must open, have all acknowledged content and no other, and accept more. Needs Linux and a C
/// compiler.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// The arguments of `downbeat-crash`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    steps::run(&mut build(Profile::Debug))?;
    steps::run(crash::crash()?.args(PART).args(&arguments.arguments))
}

/// The number of steps in [`steps()`].
pub(crate) const STEPS: usize = 1;

/// The step of the full test command. It needs the binary of the step before, the crashes.
pub(crate) fn steps(steps: &mut Steps) -> Result<()> {
    steps.command("power failures", crash::crash()?.args(PART).args(IN_TESTS))
}

/// The part of `downbeat-crash`.
const PART: [&str; 2] = ["--part", "power"];
