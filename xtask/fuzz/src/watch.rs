//! Watching the fuzzing processes.

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use downbeat_fuzz::Target;

use crate::Arguments;
use crate::worker::{progress_file, recorded_file};

/// The factor for the time of a repeated run, which is slower because it writes inputs to files.
const REPEAT_FACTOR: u64 = 10;

/// Fuzzes the targets, several at the same time. Returns whether no failure was found.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let targets = arguments.targets()?;
    let seed = arguments.seed.unwrap_or_else(random_seed);
    let jobs = arguments
        .jobs
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZeroUsize::get));
    println!(
        "fuzzing {} target(s) for {} s each, {jobs} at a time, with --seed {seed}",
        targets.len(),
        arguments.seconds
    );
    let queue = Mutex::new(VecDeque::from(targets));
    let all_well = AtomicBool::new(true);
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(target) = next(&queue) {
                    let well = fuzz(target, arguments, seed).unwrap_or_else(|error| {
                        println!("[{}] error: {error:#}", target.name);
                        false
                    });
                    all_well.fetch_and(well, Ordering::Relaxed);
                }
            });
        }
    });
    Ok(all_well.into_inner())
}

fn next(queue: &Mutex<VecDeque<&'static Target>>) -> Option<&'static Target> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

fn fuzz(target: &Target, arguments: &Arguments, seed: u64) -> Result<bool> {
    let folder = failures_folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Files of an earlier run are not valid for this one.
    for stale in [progress_file(&folder, target), recorded_file(&folder, target)] {
        if stale.exists() {
            fs::remove_file(&stale)
                .with_context(|| format!("cannot remove {}", stale.display()))?;
        }
    }
    let status = start(target, arguments, seed, arguments.seconds, None)?;
    if status.code().is_some() {
        return Ok(status.success());
    }
    find_the_end(target, arguments, &folder, seed, status)?;
    Ok(false)
}

/// Handles a process that ended without a report (stack overflow, out of memory): repeats the same
/// run with `--record-from`, so that each input is in a file before it runs.
fn find_the_end(
    target: &Target,
    arguments: &Arguments,
    folder: &Path,
    seed: u64,
    status: ExitStatus,
) -> Result<()> {
    let name = target.name;
    println!(
        "[{name}] FAILURE: the process has ended ({status}); repeating it to find the input …"
    );
    let progress = fs::read_to_string(progress_file(folder, target)).unwrap_or_default();
    // Without a progress file, the process ended within the first heartbeat.
    let from = progress.parse().unwrap_or(0);
    let seconds = arguments.seconds.saturating_mul(REPEAT_FACTOR);
    let again = start(target, arguments, seed, seconds, Some(from))?;
    if again.code().is_some() {
        println!("[{name}]   no crash this time; try cargo xtask fuzz {name} --seed {seed}");
    } else {
        let file = recorded_file(folder, target);
        println!("[{name}]   again: cargo xtask fuzz {name} --input {}", file.display());
    }
    Ok(())
}

fn start(
    target: &Target,
    arguments: &Arguments,
    seed: u64,
    seconds: u64,
    record_from: Option<u64>,
) -> Result<ExitStatus> {
    let program = env::current_exe().context("cannot find the path of this program")?;
    let mut command = Command::new(program);
    command.args([target.name, "--worker", "--seed", &seed.to_string()]);
    command.args(["--seconds", &seconds.to_string()]);
    if let Some(cases) = arguments.cases {
        command.args(["--cases", &cases.to_string()]);
    }
    if let Some(case) = record_from {
        command.args(["--record-from", &case.to_string()]);
    }
    command.status().context("cannot start the fuzzing process")
}

/// The folder of failing inputs, in the target directory.
pub(crate) fn failures_folder() -> Result<PathBuf> {
    let this = env::current_exe().context("cannot find the path of this program")?;
    let target = this.ancestors().nth(2).context("this program is not in a target directory")?;
    Ok(target.join("fuzz-failures"))
}

/// A random seed, from the hash maps of the standard library.
fn random_seed() -> u64 {
    RandomState::new().hash_one(0) >> 32
}
