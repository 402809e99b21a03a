//! The commands for stores: `import`, `export`, `verify`, `inspect` and `stats`.
//!
//! Each command parses its options, calls `downbeat-tools`, and prints the result. `docs/tools.md`
//! is their user guide.

mod export;
mod import;
mod inspect;
mod open;
mod progress;
mod stats;
mod verify;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use downbeat_tools::FindingsReport;
use serde::Serialize;
use tokio::runtime::Handle;
use tracing_subscriber::EnvFilter;

/// The tool has done its work, but content is broken or was left out. The codes 0, 1 and 2 mean the
/// same as everywhere: success, an error, a wrong command line.
const EXIT_FOUND: u8 = 3;

const EXIT_CODES: &str = "Exit codes: 0 success; 1 an error; 2 a wrong command line; \
                          3 done, but content is broken or was left out";

#[derive(Debug, Subcommand)]
pub(crate) enum Tool {
    Import(import::Options),
    Export(export::Options),
    Verify(verify::Options),
    Inspect(inspect::Options),
    Stats(stats::Options),
}

/// How a tool ended that has done its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// All content is valid.
    Fine,
    /// Content is broken or was left out, and is listed.
    Found,
}

impl Ending {
    fn of(report: &FindingsReport) -> Self {
        if report.is_empty() { Self::Fine } else { Self::Found }
    }
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
    // The tools have their own threads. The runtime only drives the tasks of the stores.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let handle: &Handle = runtime.handle();
    match tool {
        Tool::Import(options) => import::run(options, handle),
        Tool::Export(options) => export::run(options, handle),
        Tool::Verify(options) => verify::run(options, handle),
        Tool::Inspect(options) => inspect::run(options, handle),
        Tool::Stats(options) => stats::run(options, handle),
    }
}

/// Log lines of the stores go to standard error.
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

/// A number with a comma before every third digit.
fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// Bytes in a unit that is easy to read.
fn human_bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}
