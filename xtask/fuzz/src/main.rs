//! The program that fuzzes: one process that watches, and one for each target.

mod watch;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use downbeat_fuzz::{TARGETS, Target};

/// Fuzz the decoders and ingestion.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask fuzz", bin_name = "cargo xtask fuzz")]
pub(crate) struct Arguments {
    /// What to fuzz: json-frame, binary-frame, canonical, parts, ingest. Everything unless given.
    targets: Vec<String>,
    /// How long each target is fuzzed.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What all cases follow from; printed, and another one each time unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// How many targets are fuzzed at a time; as many as there are processors unless given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Try the bytes of this file only.
    #[arg(long)]
    input: Option<PathBuf>,
    /// End after so many cases, if that is before the time is over.
    #[arg(long)]
    cases: Option<u64>,
    /// Be the process that fuzzes the one target given, rather than the one that watches.
    #[arg(long, hide = true)]
    worker: bool,
    /// Write each input to a file before it is tried, from this case on.
    #[arg(long, hide = true)]
    record_from: Option<u64>,
}

impl Arguments {
    fn targets(&self) -> Result<Vec<&'static Target>> {
        if self.targets.is_empty() {
            return Ok(TARGETS.iter().collect());
        }
        let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
        let find = |name: &String| {
            downbeat_fuzz::find(name)
                .ok_or_else(|| anyhow::anyhow!("no target is called {name}; there are {}", names()))
        };
        self.targets.iter().map(find).collect()
    }

    fn single_target(&self) -> Result<&'static Target> {
        match *self.targets()? {
            [target] => Ok(target),
            _ => bail!("name the one target that the input is for"),
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether all is well.
fn run(arguments: &Arguments) -> Result<bool> {
    if let Some(file) = &arguments.input {
        worker::try_file(arguments.single_target()?, file)
    } else if arguments.worker {
        worker::run(arguments.single_target()?, arguments)
    } else {
        watch::run(arguments)
    }
}
