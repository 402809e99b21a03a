//! `cargo xtask simulate`: seeds of the deterministic simulation.

use anyhow::Result;
use clap::Args;

use crate::steps;
use crate::workspace::program;

/// Run seeds of the simulation: `cargo xtask simulate [--seeds N] [--from SEED]
/// [--seed S [--log]]`.
///
/// Runs 10,000 seeds by default. A seed that breaks a rule prints its whole log and the command to
/// run it again.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// The arguments of `downbeat-simulation`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    steps::run(program("downbeat-simulation", "release").args(&arguments.arguments))
}
