//! Downbeat: a sync server for Jazz applications.

mod args;
mod serve;
mod storage;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Command::Serve(options) => serve::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("downbeat: {error:#}");
            ExitCode::FAILURE
        }
    }
}
