//! `cargo xtask coverage-fuzz`: the fuzz targets with libFuzzer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::fuzz::fuzzer;
use crate::steps;
use crate::workspace::{cargo, root};

/// All targets, as in `xtask/fuzz/coverage/Cargo.toml`.
const TARGETS: [&str; 6] =
    ["json-frame", "binary-frame", "canonical", "parts", "ingest", "machine"];

/// The length of the longest input. Longer ones find little that short ones do not, and are slow.
const MAX_LEN: &str = "-max_len=4096";

/// Fuzz with libFuzzer, which looks for inputs that reach more of the code.
///
/// Needs a nightly compiler and `cargo-fuzz` (`cargo install cargo-fuzz`). The inputs that are
/// found are added to `xtask/fuzz/corpus`, as few as reach the same code. `cargo xtask test` runs
/// all of them. An input that fails is kept in `xtask/fuzz/coverage/artifacts`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Targets to fuzz [default: all]
    targets: Vec<String>,
    /// Time for each target, in seconds
    #[arg(long, default_value_t = 600)]
    seconds: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let all: Vec<String> = TARGETS.iter().map(ToString::to_string).collect();
    let targets = if arguments.targets.is_empty() { &all } else { &arguments.targets };
    for target in targets {
        fuzz(target, arguments.seconds)?;
        keep_smallest(target)?;
    }
    Ok(())
}

/// Fuzzes a target, from its first inputs and what earlier runs have found.
fn fuzz(target: &str, seconds: u64) -> Result<()> {
    let found = found_inputs(target);
    fs::create_dir_all(corpus(target)).context("cannot create the folder of the corpus")?;
    steps::run(fuzzer().arg(target).arg("--write-seeds").arg(&found))?;
    let time = format!("-max_total_time={seconds}");
    steps::run(lib_fuzzer(target).arg(found).arg(corpus(target)).args(["--", &time, MAX_LEN]))
}

/// Replaces the corpus of a target by the fewest inputs that reach the same code.
fn keep_smallest(target: &str) -> Result<()> {
    let (corpus, before) = (corpus(target), found_inputs(target).with_extension("before"));
    fs::rename(&corpus, &before).context("cannot move the corpus")?;
    fs::create_dir_all(&corpus).context("cannot create the folder of the corpus")?;
    let inputs = [&corpus, &before, &found_inputs(target)];
    steps::run(lib_fuzzer(target).args(inputs).args(["--", "-merge=1", MAX_LEN]))?;
    fs::remove_dir_all(before).context("cannot remove the old corpus")
}

fn lib_fuzzer(target: &str) -> Command {
    let mut command = cargo();
    command.args(["+nightly", "fuzz", "run", "--fuzz-dir", "xtask/fuzz/coverage", target]);
    command
}

/// The folder with the inputs that are kept.
fn corpus(target: &str) -> PathBuf {
    root().join("xtask/fuzz/corpus").join(target)
}

/// The folder with all inputs that this machine has found.
fn found_inputs(target: &str) -> PathBuf {
    root().join(Path::new("target/coverage-fuzz")).join(target)
}
