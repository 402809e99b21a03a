//! `cargo xtask test`: all checks that a change must pass.

use anyhow::Result;
use clap::Args;

use crate::attack;
use crate::crash;
use crate::differential;
use crate::fuzz;
use crate::interop;
use crate::metrics;
use crate::power;
use crate::steps::Steps;
use crate::tools;
use crate::words;
use crate::workspace::cargo;

/// The steps except those of attacks, crashes, power failures, metrics and interop
/// scenarios.
const OTHER_STEPS: usize = 7;

/// Run every check: formatting, plain words, lints, tests, documentation, fuzzing, comparison with
/// the reference, attacks, crashes, power failures, metrics, interop.
///
/// No check is ever skipped. A missing program that cannot be installed by npm is a failure that
/// names it. The first failure ends the run.
#[derive(Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments) -> Result<()> {
    // Fails now rather than after minutes of compiling.
    tools::require_c_compiler()?;
    tools::require_node()?;
    tools::require_promtool()?;

    let interop = interop::Arguments::default();
    let mut steps = Steps::new(
        OTHER_STEPS
            + attack::STEPS
            + crash::STEPS
            + power::STEPS
            + metrics::STEPS
            + interop.step_count(),
    );
    steps.command("formatting", cargo().args(["fmt", "--all", "--check"]))?;
    steps.step("plain words", "cargo xtask words", || words::run(&words::Arguments {}))?;
    steps.command(
        "lints",
        cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    )?;
    steps.command("tests", cargo().args(["test", "--workspace"]))?;
    steps.command(
        "documentation",
        cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    steps.command("fuzzing", &mut fuzz::step())?;
    steps.step("comparison with the reference", "cargo xtask differential", || {
        differential::run(&differential::Arguments::default())
    })?;
    attack::steps(&mut steps)?;
    crash::steps(&mut steps)?;
    power::steps(&mut steps)?;
    metrics::steps(&mut steps)?;
    interop::steps(&mut steps, &interop)?;
    steps.finish();
    Ok(())
}
