//! Tools for stores: moving them, checking them, looking into them.
//!
//! `docs/tools.md` is what their users read.

mod check;
mod directory;
mod export;
mod file;
mod findings;
mod import;
mod inspect;
mod intake;
mod progress;
mod stats;
mod store;
mod verify;
mod walk;
mod writer;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use serde::Serialize;
use tokio::runtime::Handle;
use tracing_subscriber::EnvFilter;

/// Ended as it should, but something is broken or was left out. 0, 1 and 2 are what they are
/// everywhere: success, an error, and a command line that makes no sense.
const EXIT_FOUND: u8 = 3;

const EXIT_CODES: &str = "Exit codes: 0 all is well; 1 an error; 2 a wrong command line; \
                          3 done, but something was left out or is broken";

#[derive(Debug, Subcommand)]
pub(crate) enum Tool {
    Import(import::Options),
    Export(export::Options),
    Verify(verify::Options),
    Inspect(inspect::Options),
    Stats(stats::Options),
}

/// How a tool ended that did its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Nothing was wrong.
    Fine,
    /// Something is broken or was left out, and has been told.
    Found,
}

/// Runs a tool.
pub(crate) fn run(tool: &Tool) -> ExitCode {
    init_log();
    match run_tool(tool) {
        Ok(Ending::Fine) => ExitCode::SUCCESS,
        Ok(Ending::Found) => ExitCode::from(EXIT_FOUND),
        Err(error) => {
            eprintln!("downbeat: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_tool(tool: &Tool) -> anyhow::Result<Ending> {
    // The tools work on threads of their own; this only carries the stores' tasks.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    let handle: &Handle = runtime.handle();
    match tool {
        Tool::Import(options) => import::run(options, handle),
        Tool::Export(options) => export::run(options, handle),
        Tool::Verify(options) => verify::run(options, handle),
        Tool::Inspect(options) => inspect::run(options, handle),
        Tool::Stats(options) => stats::run(options, handle),
    }
}

/// What stores have to say goes to standard error.
fn init_log() {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// Writes a result to standard output as JSON.
fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Numbers as people read them: with a comma before every third digit.
fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// Bytes as people read them.
fn human_bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}
