//! Fuzzing one target, in a process that may crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use downbeat_fuzz::{Failure, Fuzzer, SLOW, Target, memory, minimise, quiet_panics, try_input};

use crate::Arguments;
use crate::watch::failures_folder;

/// The interval for recording the number of the current case, in case of a crash.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// The time after which an input counts as endless and the process ends. The much shorter limit
/// [`SLOW`] also finds slow inputs, but only after they have finished.
const FOREVER: Duration = Duration::from_secs(20);

/// The time limit for shortening a failing input.
const MINIMISE_FOR: Duration = Duration::from_secs(20);

/// The stack size of the thread that runs the targets, the same as in the server.
const STACK_SIZE: usize = 2 << 20;

/// The current case, for the thread that checks the time.
#[derive(Default)]
struct Current {
    case: u64,
    input: Vec<u8>,
    since: Option<Instant>,
}

/// The result of a run.
struct Summary {
    cases: u64,
    features: usize,
    kept: usize,
    /// The input of the last case and its failure, if it failed.
    failure: Option<(Vec<u8>, Failure)>,
}

type Shared = Arc<Mutex<Current>>;

/// Fuzzes a target. Returns whether no failure was found.
pub(crate) fn run(target: &'static Target, arguments: &Arguments) -> Result<bool> {
    let folder = failures_folder()?;
    let seed = arguments.seed.unwrap_or_default();
    quiet_panics();
    memory::watch();
    let shared = Shared::default();
    let plan = Plan {
        target,
        seed,
        time: Duration::from_secs(arguments.seconds),
        cases: arguments.cases.unwrap_or(u64::MAX),
        record_from: arguments.record_from.unwrap_or(u64::MAX),
        recorded: recorded_file(&folder, target),
        current: Arc::clone(&shared),
    };
    let started = Instant::now();
    let (done, outcome) = sync_channel(1);
    let fuzzing = thread::Builder::new()
        .stack_size(STACK_SIZE)
        // The receiver lives as long as this process.
        .spawn(move || done.send(plan.carry_out()))
        .context("cannot start a thread")?;
    let summary = wait(&outcome, &shared, target, &folder)?;
    // The thread has sent its result.
    let _ = fuzzing.join();
    let name = target.name;
    let Summary { cases, features, kept, failure } = summary;
    if let Some((input, failure)) = failure {
        report(target, &folder, &input, &failure)?;
        println!(
            "[{name}]   from the start: cargo xtask fuzz {name} --seed {seed} --cases {cases}"
        );
        return Ok(false);
    }
    let seconds = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let rate = cases as f64 / seconds;
    println!(
        "[{name}] no failures: {cases} cases in {seconds:.0} s ({rate:.0} a second), \
         {features} features, {kept} inputs kept"
    );
    Ok(true)
}

/// Waits for the outcome, records the progress, and ends the process if an input hangs.
fn wait(
    outcome: &Receiver<Summary>,
    shared: &Shared,
    target: &Target,
    folder: &Path,
) -> Result<Summary> {
    let progress = progress_file(folder, target);
    loop {
        match outcome.recv_timeout(HEARTBEAT) {
            Ok(outcome) => return Ok(outcome),
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the fuzzing thread is gone"),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let current = shared.lock().unwrap_or_else(PoisonError::into_inner);
        fs::write(&progress, current.case.to_string()).context("cannot write a file")?;
        if current.since.is_some_and(|since| since.elapsed() > FOREVER) {
            let message = format!("not done after {} s", FOREVER.as_secs());
            let failure = Failure { place: "hangs".to_owned(), message };
            tell(target, folder, &current.input, &failure)?;
            // There is no other way to stop the thread.
            process::exit(1);
        }
    }
}

struct Plan {
    target: &'static Target,
    seed: u64,
    time: Duration,
    cases: u64,
    record_from: u64,
    recorded: PathBuf,
    current: Shared,
}

impl Plan {
    fn carry_out(self) -> Summary {
        let mut fuzzer = Fuzzer::new(self.target, self.seed, SLOW);
        let deadline = Instant::now() + self.time;
        let mut failure = None;
        while failure.is_none() && fuzzer.cases() < self.cases && Instant::now() < deadline {
            let input = fuzzer.next_input();
            self.note(fuzzer.cases(), &input);
            failure = fuzzer.judge(&input).err().map(|failure| (input, failure));
        }
        // The time limit of an input does not apply to the rest.
        self.current.lock().unwrap_or_else(PoisonError::into_inner).since = None;
        let (cases, features, kept) = (fuzzer.cases(), fuzzer.features(), fuzzer.kept());
        Summary { cases, features, kept, failure }
    }

    fn note(&self, case: u64, input: &[u8]) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.case = case;
        current.input.clear();
        current.input.extend_from_slice(input);
        current.since = Some(Instant::now());
        if case >= self.record_from {
            // If writing fails, reading the file fails later.
            let _ = fs::write(&self.recorded, input);
        }
    }
}

/// Runs the input of one file. Returns whether it did not fail.
pub(crate) fn try_file(target: &'static Target, file: &Path) -> Result<bool> {
    let input = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    println!("[{}] {} bytes of {}", target.name, input.len(), file.display());
    memory::watch();
    let started = Instant::now();
    // Panics are printed as usual, with their place and stack.
    let result = thread::Builder::new()
        .stack_size(STACK_SIZE)
        .spawn(move || try_input(target, &input, SLOW))
        .context("cannot start a thread")?
        .join();
    match &result {
        Ok(Ok(_)) => println!("no failure, in {:?}", started.elapsed()),
        Ok(Err(failure)) => println!("failure: {} ({})", failure.message, failure.place),
        Err(_) => println!("failure: a panic"),
    }
    Ok(matches!(result, Ok(Ok(_))))
}

fn report(target: &'static Target, folder: &Path, input: &[u8], failure: &Failure) -> Result<()> {
    println!("[{}] failure with {} bytes; shortening …", target.name, input.len());
    let small = minimise(target, input, failure, MINIMISE_FOR);
    tell(target, folder, &small, failure)
}

/// Saves the input, and prints how to run it again.
fn tell(target: &Target, folder: &Path, input: &[u8], failure: &Failure) -> Result<()> {
    let place: String = failure
        .place
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let file = folder.join(format!("{}-{place}", target.name));
    fs::write(&file, input).with_context(|| format!("cannot write {}", file.display()))?;
    let name = target.name;
    println!(
        "[{name}] FAILURE: {}\n[{name}]   at {}\n[{name}]   input ({} bytes): {}\n\
         [{name}]   again: cargo xtask fuzz {name} --input {}",
        failure.message,
        failure.place,
        input.len(),
        String::from_utf8_lossy(input.get(..300).unwrap_or(input)).escape_debug(),
        file.display()
    );
    Ok(())
}

/// The file with the number of the current case.
pub(crate) fn progress_file(folder: &Path, target: &Target) -> PathBuf {
    folder.join(format!("{}.progress", target.name))
}

/// The file for the current input, when a run is repeated to find the input that crashed the
/// process.
pub(crate) fn recorded_file(folder: &Path, target: &Target) -> PathBuf {
    folder.join(format!("{}-ends-the-process", target.name))
}
