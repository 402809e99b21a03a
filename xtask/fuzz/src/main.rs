//! The fuzzing program. One process watches, and starts a process for each target.

mod watch;
mod worker;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use downbeat_fuzz::{TARGETS, Target};

/// Fuzz the decoders, ingestion and the whole machine.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask fuzz", bin_name = "cargo xtask fuzz")]
pub(crate) struct Arguments {
    /// Targets to fuzz: json-frame, binary-frame, canonical, parts, ingest, machine (default: all).
    targets: Vec<String>,
    /// Time for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seed that determines all cases (default: random; it is printed).
    #[arg(long)]
    seed: Option<u64>,
    /// Number of targets to fuzz at the same time (default: number of processors).
    #[arg(long)]
    jobs: Option<usize>,
    /// Run only the input in this file.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Stop after this number of cases, if the time is not over before.
    #[arg(long)]
    cases: Option<u64>,
    /// Fuzz the single given target in this process, instead of watching other processes.
    #[arg(long, hide = true)]
    worker: bool,
    /// From this case on, write each input to a file before running it.
    #[arg(long, hide = true)]
    record_from: Option<u64>,
    /// Write the first inputs of the single given target to this folder, for another fuzzer.
    #[arg(long, hide = true)]
    write_seeds: Option<PathBuf>,
}

impl Arguments {
    fn targets(&self) -> Result<Vec<&'static Target>> {
        if self.targets.is_empty() {
            return Ok(TARGETS.iter().collect());
        }
        let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
        let find = |name: &String| {
            downbeat_fuzz::find(name)
                .ok_or_else(|| anyhow::anyhow!("no target {name}; the targets are {}", names()))
        };
        self.targets.iter().map(find).collect()
    }

    fn single_target(&self) -> Result<&'static Target> {
        match *self.targets()? {
            [target] => Ok(target),
            _ => bail!("exactly one target is required"),
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

/// Returns whether no failure was found.
fn run(arguments: &Arguments) -> Result<bool> {
    if let Some(file) = &arguments.input {
        worker::try_file(arguments.single_target()?, file)
    } else if let Some(folder) = &arguments.write_seeds {
        write_seeds(arguments.single_target()?, folder)
    } else if arguments.worker {
        worker::run(arguments.single_target()?, arguments)
    } else {
        watch::run(arguments)
    }
}

fn write_seeds(target: &Target, folder: &Path) -> Result<bool> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (number, seed) in target.first_inputs().into_iter().enumerate() {
        let file = folder.join(format!("seed-{number}"));
        fs::write(&file, seed).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(true)
}
