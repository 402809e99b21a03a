//! `cargo xtask differential`: compares the lower crates with the reference on random inputs.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::npm;
use crate::steps;
use crate::workspace::{program, root};

/// Compare the lower crates with the reference (Node.js) on random inputs: `cargo xtask
/// differential [--seed N] [--cases N] [--suite NAME [--case N]] [--record]`.
///
/// Runs 10,000 cases of each cheap suite and fewer of the others by default, in about a minute.
/// Each different case is printed with the command to run it again. `cargo xtask differential
/// --help` lists the options.
#[derive(Args, Default)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// The arguments of `downbeat-differential`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    // The reference of the interop scenarios.
    npm::install(&root().join("xtask/interop"))?;
    steps::run(differential().args(&arguments.arguments))
}

/// Builds and runs the program of the `downbeat-differential` crate, with the profile for fuzzing:
/// fast, but with checks.
fn differential() -> Command {
    program("downbeat-differential", "fuzz")
}
