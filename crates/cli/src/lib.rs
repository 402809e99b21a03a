//! The command line of the `downbeat` binary: flags, configuration, and one call per command.
//!
//! The work is done by other crates: `downbeat-node` runs the server, `downbeat-admin` its admin
//! port, `downbeat-tools` the tools for stores, and `downbeat-bench` the load tests. This crate is
//! the binary's own code and has no stable API; libraries use `downbeat`.

mod access;
mod args;
mod bench;
mod certificate;
mod config;
mod conversion;
mod exit;
mod keys;
mod log;
#[cfg(unix)]
mod open_files;
mod serve;
mod signals;
mod storage;
mod tools;
mod upstream;
mod watched;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use downbeat_protocol::Printable;

use crate::args::{Args, Command};

/// Runs the command that the command line names.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Command::Serve(sources) => return serve::run(&sources),
        Command::Tool(tool) => return tools::run(&tool),
        Command::Bench(options) => bench::run(&options),
        Command::Config(options) => print_config(&options),
        Command::Key(command) => keys::run(&command),
        Command::Completions { shell } => print_completions(shell),
    };
    exit::report(result)
}

fn print_completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "downbeat", &mut text);
    std::io::stdout().write_all(&text)?;
    Ok(())
}

fn print_config(options: &args::ConfigOptions) -> anyhow::Result<()> {
    let loaded = options.sources.load()?;
    for warning in &loaded.warnings {
        eprintln!("downbeat: warning: {}", Printable(warning));
    }
    let text = config::show(&loaded, options.json);
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
