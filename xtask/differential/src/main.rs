//! Runs the reference (in Node.js) and the crates `downbeat-protocol`, `downbeat-crypto` and
//! `downbeat-core` on the same random inputs, and compares their answers. `cargo xtask
//! differential` installs the dependencies and runs this program.
//!
//! All random values come from a seed that is printed at the start, so each case can be repeated
//! alone. Some cases of each suite are recorded with the reference's answers. `cargo test` compares
//! the crates' answers with them, without Node.js.

mod given;
mod groups;
mod json_text;
mod random;
mod recorded;
mod reference;
mod run;
mod suite;
mod suites;

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::reference::Reference;
use crate::suite::Suite;
use crate::suites::SUITES;

/// Compare the protocol, crypto and core crates with the reference on random inputs.
#[derive(Parser)]
#[command(name = "cargo xtask differential", bin_name = "cargo xtask differential")]
struct Arguments {
    /// Seed of all random values (default: random).
    #[arg(long)]
    seed: Option<u64>,

    /// Number of cases of a cheap suite. Costly suites run fewer.
    #[arg(long, default_value_t = 10_000)]
    cases: u64,

    /// Run only this suite.
    #[arg(long, value_parser = SUITES.iter().map(|suite| suite.name).collect::<Vec<_>>())]
    suite: Option<String>,

    /// Run only the case with this number, and print it with the answers.
    #[arg(long, requires = "suite", requires = "seed")]
    case: Option<u64>,

    /// Run only the case in this file, in the format of a printed input.
    #[arg(long, requires = "suite", conflicts_with = "case")]
    input: Option<PathBuf>,

    /// Record the first cases of each suite with the reference's answers, instead of comparing.
    #[arg(long)]
    record: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let suites: Vec<Suite> = SUITES
        .iter()
        .filter(|suite| arguments.suite.as_deref().is_none_or(|name| name == suite.name))
        .copied()
        .collect();
    let mut reference = Reference::start()?;
    if arguments.record {
        for suite in &suites {
            recorded::record(suite, &mut reference)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let seed = arguments.seed.unwrap_or_else(|| RandomState::new().hash_one(()));
    println!("    seed {seed}");
    let mut differences = 0;
    for suite in &suites {
        differences += match (arguments.case, &arguments.input) {
            (Some(case), _) => run::one(suite, &suite.case(seed, case)?, &mut reference)?,
            (_, Some(path)) => {
                let text = fs::read(path).with_context(|| path.display().to_string())?;
                run::one(suite, &serde_json::from_slice(&text)?, &mut reference)?
            }
            (None, None) => run::many(suite, seed, arguments.cases, &mut reference)?,
        };
    }
    if differences > 0 {
        println!("\n    {differences} cases differ");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
