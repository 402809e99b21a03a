//! `cargo xtask bench`: Downbeat side by side with the reference server.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::npm;
use crate::steps::Steps;
use crate::storm;
use crate::tools;
use crate::workspace::{Profile, binary, build, program, root};

/// Run benchmarks of whole servers. (`cargo bench -p CRATE` runs those of one crate.)
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Compare with the reference server, on Linux: `cargo xtask bench compare [--rounds N] [--only
    /// ACT,... | --all] [--without SERVER,...] [--co-values N] [--write docs]`.
    #[command(disable_help_flag = true)]
    Compare {
        /// The arguments of `downbeat-compare`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    Storm(storm::Arguments),
    /// Compare the storage backends: cost, growth, and what damage does to them. `cargo xtask bench
    /// storages [--only cost,growth,damage] [--rounds N] [--edits N] [--trials N] [--seed S]`.
    #[command(disable_help_flag = true)]
    Storages {
        /// The arguments of `downbeat-storages`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

pub(crate) fn run_benchmark(arguments: &Arguments) -> Result<()> {
    let arguments = match &arguments.benchmark {
        Benchmark::Compare { arguments } => arguments,
        Benchmark::Storm(arguments) => return storm::run(arguments),
        Benchmark::Storages { arguments } => {
            let mut storages = program("downbeat-storages", "release");
            return crate::steps::run(storages.args(arguments));
        }
    };
    tools::require_node()?;
    tools::require_c_compiler()?;
    let reference = root().join("xtask/compare/reference");
    let mut steps = Steps::new(3);
    let mut downbeat = build(Profile::Release);
    if makes_a_store(arguments) {
        downbeat.args(["--bins", "--example", "generate_store"]);
    }
    steps.command("server and clients", &mut downbeat)?;
    steps.step("reference server", "cd xtask/compare/reference && npm ci", || {
        npm::install(&reference)?;
        npm::build_better_sqlite3(&reference)
    })?;
    let mut compare = program("downbeat-compare", "dev");
    compare.arg("--downbeat").arg(binary(Profile::Release)?);
    compare.arg("--reference").arg(&reference).args(arguments);
    steps.command("comparison", &mut compare)?;
    steps.finish();
    Ok(())
}

/// Whether the arguments select an act that needs a large store.
fn makes_a_store(arguments: &[String]) -> bool {
    arguments.iter().any(|word| word == "--all" || word.contains("startup"))
}
