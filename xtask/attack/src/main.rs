//! `cargo xtask attack`: see the library.

use std::process::ExitCode;

use clap::Parser;
use downbeat_attack::Arguments;

fn main() -> ExitCode {
    match downbeat_attack::run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
