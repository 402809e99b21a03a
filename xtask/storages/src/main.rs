//! Compares the storage backends in one run: what they cost, how large they are on disk, and what
//! is left of them after damage. `cargo xtask bench storages`; `docs/storage.md` has the results.

mod content;
mod damage;
mod examine;
mod growth;
mod kind;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use downbeat_storage::benchmarks;

use crate::kind::Kind;

/// Compare the storage backends.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench storages", bin_name = "cargo xtask bench storages")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Parts to run, separated by commas or as repeated options [default: all].
    #[arg(long, value_enum, value_name = "PART,...", value_delimiter = ',')]
    only: Vec<Part>,
    /// Rounds of the part `cost`.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Edits of the part `growth`.
    #[arg(long, default_value_t = 300_000)]
    edits: u64,
    /// Damaged stores of each backend.
    #[arg(long, default_value_t = 120)]
    trials: usize,
    /// The only backend whose stores are damaged [default: all].
    #[arg(long, value_enum)]
    damaged: Option<Kind>,
    /// Seed of the damage.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The parts of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// CPU time, time and bytes written by operation, in turn for each backend.
    Cost,
    /// Bytes on disk and bytes written for many small edits.
    Growth,
    /// Flip bits, erase sectors and cut files, one at a time.
    Damage,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read a whole store, and compare it with what it was. A process of its own, because a damaged
    /// store may end it.
    #[command(hide = true)]
    Examine {
        #[arg(long, value_enum)]
        kind: Kind,
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        truth: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(arguments: &Arguments) -> Result<()> {
    if let Some(Command::Examine { kind, dir, truth }) = &arguments.command {
        return examine::run(*kind, dir, truth).await;
    }
    let runs = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    if runs(Part::Cost) {
        println!("Cost of an operation, medians of {} rounds:\n", arguments.rounds);
        let open = Kind::ALL.map(|kind| {
            move |dir: &std::path::Path| kind.open(dir).expect("an empty directory can be opened")
        });
        let [sled, reference, native] = &open;
        let stores: [(&str, benchmarks::Open<'_>); 3] =
            [("sled", sled), ("reference", reference), ("native", native)];
        let directory = || tempfile::tempdir().expect("a temporary directory can be made");
        benchmarks::compare(arguments.rounds, directory, &stores).await;
    }
    if runs(Part::Growth) {
        growth::run(arguments.edits).await?;
    }
    if runs(Part::Damage) {
        damage::run(arguments.trials, arguments.seed, arguments.damaged).await?;
    }
    Ok(())
}
