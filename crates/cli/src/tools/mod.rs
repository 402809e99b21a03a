//! The commands for stores: `convert`, `import`, `export`, `verify`, `inspect`, `stats`, `compact` and
//! `salvage`.
//!
//! Each command parses its options, calls `downbeat-tools`, and prints the result. `docs/tools.md`
//! is their user guide.

mod compact;
mod convert;
mod export;
mod import;
mod inspect;
mod open;
mod progress;
mod salvage;
mod stats;
mod verify;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use downbeat_protocol::is_unprintable;
use downbeat_tools::FindingsReport;
use serde::Serialize;
use tokio::runtime::Handle;

use crate::{exit, log};

/// The tool has done its work, but content is broken or was left out. The codes 0, 1 and 2 mean the
/// same as everywhere: success, an error, a wrong command line.
const EXIT_FOUND: u8 = 3;

/// The store of a server that was started without options.
const DEFAULT_STORE: &str = "data:./downbeat-data";

const EXIT_CODES: &str = "Exit codes: 0 success; 1 an error; 2 a wrong command line; \
                          3 done, but content is broken or was left out";

#[derive(Debug, Subcommand)]
pub(crate) enum Tool {
    Convert(convert::Options),
    Import(import::Options),
    Export(export::Options),
    Verify(verify::Options),
    Inspect(inspect::Options),
    Stats(stats::Options),
    Compact(compact::Options),
    Salvage(salvage::Options),
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
    // Log lines of the stores.
    log::init_tool();
    match run_tool(tool) {
        Ok(Ending::Fine) => ExitCode::SUCCESS,
        Ok(Ending::Found) => ExitCode::from(EXIT_FOUND),
        Err(error) => {
            exit::print_error(&mut io::stderr(), &error);
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
        Tool::Convert(options) => convert::run(options, handle),
        Tool::Import(options) => import::run(options, handle),
        Tool::Export(options) => export::run(options, handle),
        Tool::Verify(options) => verify::run(options, handle),
        Tool::Inspect(options) => inspect::run(options, handle),
        Tool::Stats(options) => stats::run(options, handle),
        Tool::Compact(options) => compact::run(options),
        Tool::Salvage(options) => salvage::run(options, handle),
    }
}

/// Writes a result to standard output as JSON.
fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", printable_json(value)?)?;
    Ok(out.flush()?)
}

/// A result as JSON that is safe for a terminal. Stored texts may come from strangers.
fn printable_json(value: &impl Serialize) -> serde_json::Result<String> {
    let json = serde_json::to_string_pretty(value)?;
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' => text.push(c),
            // Strings contain no such character, so this is space between values.
            _ if c.is_ascii_control() && c != '\u{7f}' => text.push(' '),
            _ if is_unprintable(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
            _ => text.push(c),
        }
    }
    Ok(text)
}

/// A number with a comma before every third digit.
fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// Bytes in a unit that is easy to read.
fn human_bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_for_a_terminal_has_no_hidden_characters_and_the_same_content() {
        let hostile = "a\n\u{1b}[2J\u{7f}\u{9b}\u{202e}\u{e0041} é 🎉";
        let raw = serde_json::value::RawValue::from_string(format!("\t[{:?}]\r", "b")).unwrap();
        let text = printable_json(&(hostile, raw)).unwrap();
        assert!(!text.contains(|c| is_unprintable(c) && c != '\n'), "{text:?}");
        let read: (String, Vec<String>) = serde_json::from_str(&text).unwrap();
        assert_eq!(read, (hostile.to_owned(), vec!["b".to_owned()]));
    }
}
