//! `cargo xtask attack`: attacks the real server, with an honest client beside the attacker.

use anyhow::Result;
use clap::Args;

use crate::steps::{self, Steps};
use crate::workspace::{Profile, binary, build, program};

/// The short version for the full test command. Limits of time are four times as long: the server
/// has checks and is not optimised, and other programs may keep the processors busy. What is a
/// fault of the server and not of the machine takes far longer still.
const IN_TESTS: [&str; 3] = ["--short", "--tolerance", "4"];

/// Attack the real server as strangers would, with an honest client beside them: `cargo xtask
/// attack [--list] [--only NAME...] [--memory-budget 128MiB|1GiB] [--short] [--json] [--binary
/// FILE]`.
///
/// Runs all attacks with both memory budgets by default, on the release build. Fails if an attack
/// slows the honest client down, or exceeds a bound on memory, files, the log or the time to stop.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// The arguments of `downbeat-attack`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let names = |name: &str| arguments.arguments.iter().any(|argument| argument.starts_with(name));
    let mut command = program("downbeat-attack", "dev");
    if !names("--binary") && !names("--list") && !names("--help") {
        steps::run(&mut build(Profile::Release))?;
        command.arg("--binary").arg(binary(Profile::Release)?);
    }
    steps::run(command.args(&arguments.arguments))
}

/// The number of steps in [`steps()`].
pub(crate) const STEPS: usize = 2;

/// The steps of the full test command.
pub(crate) fn steps(steps: &mut Steps) -> Result<()> {
    steps.command("server to be attacked", &mut build(Profile::Debug))?;
    let mut command = program("downbeat-attack", "dev");
    command.arg("--binary").arg(binary(Profile::Debug)?).args(IN_TESTS);
    steps.command("attacks", &mut command)
}
