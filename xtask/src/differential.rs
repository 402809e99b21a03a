//! `cargo xtask differential`: the lower crates and the reference, given the same random inputs.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::npm;
use crate::steps;
use crate::workspace::{cargo, root};

/// Compare the lower crates with the reference (Node.js) on random inputs: `cargo xtask
/// differential [--seed N] [--cases N] [--suite NAME [--case N]] [--record]`.
///
/// 10,000 cases of each cheap suite, and a fixed part of that of the others, unless said
/// otherwise: about a minute. A case that differs is printed with the command to run it
/// again; `cargo xtask differential --help` tells more.
#[derive(Args, Default)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// As `downbeat-differential` takes them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    // The reference is the one that the interop scenarios use.
    npm::install(&root().join("xtask/interop"))?;
    steps::run(program().args(&arguments.arguments))
}

/// Builds and runs the program of the `downbeat-differential` crate, with the profile that fuzzing
/// uses as well: fast, but checked.
fn program() -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "downbeat-differential"]);
    command.args(["--profile", "fuzz", "--"]);
    command
}
