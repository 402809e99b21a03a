//! Downbeat: a sync server for Jazz applications.

mod args;
mod config;
mod exit;
mod log;
mod serve;
mod storage;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Command::Serve(sources) => serve::run(&sources),
        Command::Config(options) => print_config(&options),
    };
    exit::report(result)
}

fn print_config(options: &args::ConfigOptions) -> anyhow::Result<()> {
    let loaded = options.sources.load()?;
    for warning in &loaded.warnings {
        eprintln!("downbeat: warning: {warning}");
    }
    let text = config::show(&loaded, options.json);
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
