//! A sequence of steps, each with a heading and its duration. The first failure ends the sequence.
//!
//! Headings go to standard output, like the results of the test runners, so that a file with the
//! output has the right order.

use std::fmt::Write as _;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// The time between two checks of a child process with a time limit.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs steps and numbers them.
pub(crate) struct Steps {
    total: usize,
    done: usize,
    started: Instant,
}

impl Steps {
    /// `total` is the number of steps, for the headings.
    pub(crate) fn new(total: usize) -> Self {
        Self { total, done: 0, started: Instant::now() }
    }

    /// Runs one step. `rerun` is the command line that repeats only this step; a failure shows it.
    pub(crate) fn step<T>(
        &mut self,
        name: &str,
        rerun: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.done += 1;
        println!("\n==> [{}/{}] {name}: {rerun}", self.done, self.total);
        let started = Instant::now();
        let result = work();
        let seconds = started.elapsed().as_secs_f64();
        match &result {
            Ok(_) => println!("    {name}: done in {seconds:.1} s"),
            Err(_) => println!("    {name}: failed after {seconds:.1} s"),
        }
        result.map_err(|error| {
            anyhow!("step \"{name}\" failed: {error:#}\nto run just this step: {rerun}")
        })
    }

    /// Runs a child process as a step.
    pub(crate) fn command(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let rerun = command_line(command);
        self.step(name, &rerun, || run(command))
    }

    /// Prints that all steps are done.
    pub(crate) fn finish(self) {
        debug_assert_eq!(self.done, self.total, "the headings count the steps");
        println!(
            "\n==> all {} steps done in {:.1} s",
            self.done,
            self.started.elapsed().as_secs_f64()
        );
    }
}

/// Runs a child process to its end. A failure of the process is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| cannot_start(command))?;
    succeeded(status)
}

/// Like [`run`], but the process is ended after `limit`.
pub(crate) fn run_within(limit: Duration, command: &mut Command) -> Result<()> {
    let mut child = command.spawn().with_context(|| cannot_start(command))?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a child process")? {
            return succeeded(status);
        }
        if Instant::now() >= deadline {
            end(&mut child);
            bail!("not done within {} s", limit.as_secs());
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// A command as typed in a shell, with its environment.
pub(crate) fn command_line(command: &Command) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            let _ = write!(line, "{}={} ", name.display(), quoted(&value.to_string_lossy()));
        }
    }
    line.push_str(&quoted(&command.get_program().to_string_lossy()));
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&quoted(&argument.to_string_lossy()));
    }
    line
}

fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_alphanumeric() || "-_=./:,@+".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn succeeded(status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("{status}");
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start {}", command.get_program().display())
}

fn end(child: &mut Child) {
    // Fails only if the process has just ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_typed_as_printed() {
        let mut command = Command::new("cargo");
        command.args(["doc", "it's", "a b", ""]).env("RUSTDOCFLAGS", "-D warnings");
        let line = command_line(&command);
        assert_eq!(line, r"RUSTDOCFLAGS='-D warnings' cargo doc 'it'\''s' 'a b' ''");
    }

    #[test]
    fn a_failure_names_the_step_and_how_to_run_it_again() {
        let error = Steps::new(1).step("lints", "cargo clippy", || -> Result<()> { bail!("no") });
        let text = format!("{:#}", error.unwrap_err());
        assert_eq!(text, "step \"lints\" failed: no\nto run just this step: cargo clippy");
    }
}
