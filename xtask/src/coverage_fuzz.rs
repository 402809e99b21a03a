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
/// all of them. An input that fails is kept in `xtask/fuzz/coverage/artifacts`; once its fault is
/// mended, it belongs into `xtask/fuzz/regressions`.
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

/// Fuzzes a target, from its first inputs, which include its corpus, and what earlier runs have
/// found.
fn fuzz(target: &str, seconds: u64) -> Result<()> {
    let found = found_inputs(target);
    steps::run(fuzzer().arg(target).arg("--write-seeds").arg(&found))?;
    let time = format!("-max_total_time={seconds}");
    steps::run(lib_fuzzer(target).arg(found).args(["--", &time, MAX_LEN]))
}

/// Replaces the corpus of a target by the fewest inputs that reach the same code.
fn keep_smallest(target: &str) -> Result<()> {
    let found = found_inputs(target);
    replace(&corpus(target), &found.with_extension("smallest"), |smallest| {
        let inputs = [smallest, &found];
        steps::run(lib_fuzzer(target).args(inputs).args(["--", "-merge=1", MAX_LEN]))
    })
}

/// Replaces a folder by a new one once `fill` has filled that. Until then it stays as it is.
fn replace(folder: &Path, new: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if new.exists() {
        fs::remove_dir_all(new).context("cannot remove what a failed run has left")?;
    }
    fs::create_dir_all(new).context("cannot create a folder for the new corpus")?;
    fill(new)?;
    if folder.exists() {
        fs::remove_dir_all(folder).context("cannot remove the old corpus")?;
    }
    fs::create_dir_all(folder.parent().unwrap_or(folder)).context("cannot create a folder")?;
    fs::rename(new, folder)
        .with_context(|| format!("cannot move the new corpus from {}", new.display()))
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

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn the_targets_are_those_of_the_manifest() {
        let manifest = include_str!("../fuzz/coverage/Cargo.toml");
        let names = manifest.split("[[bin]]\nname = \"").skip(1);
        let names: Vec<_> = names.filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(names, TARGETS);
    }

    #[test]
    fn a_corpus_is_replaced_only_once_the_merge_has_succeeded() {
        let dir = tempfile::tempdir().unwrap();
        let (corpus, new) = (dir.path().join("corpus/a"), dir.path().join("a.smallest"));
        let text = || fs::read_to_string(corpus.join("input")).ok();
        let write = |folder: &Path, text: &str| Ok(fs::write(folder.join("input"), text)?);

        replace(&corpus, &new, |folder| write(folder, "first")).unwrap();
        assert_eq!(text().as_deref(), Some("first"));
        let failed = replace(&corpus, &new, |folder| {
            write(folder, "half")?;
            bail!("the merge fails")
        });
        assert!(failed.is_err());
        assert_eq!(text().as_deref(), Some("first"));
        replace(&corpus, &new, |folder| {
            assert!(!folder.join("input").exists(), "of the failed run");
            write(folder, "second")
        })
        .unwrap();
        assert_eq!(text().as_deref(), Some("second"));
    }
}
