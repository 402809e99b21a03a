//! Compares Downbeat and the reference server: the same load from the same clients, in turn, on one
//! machine.
//!
//! Each round starts every server on an empty store and runs the acts of [`plan`] with
//! `downbeat bench`, whose reports are JSON. With `--write`, the figures of each act are saved as a
//! [`record`], and tables and plots are made from all records. An act that runs replaces its whole
//! record; other acts keep theirs. Every table names its commit and date.

mod document;
mod figures;
mod machine;
mod memory;
mod plan;
mod play;
mod plot;
mod record;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use clap::builder::PossibleValuesParser;

use crate::plan::{ACTS, Act};
use crate::record::Record;
use crate::server::Contender;

/// Compare Downbeat with the reference server.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench compare", bin_name = "cargo xtask bench compare")]
struct Arguments {
    /// Number of measurements. Acts that take minutes run less often.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Acts to run, separated by commas or as repeated options (default: all except the long ones).
    #[arg(
        long,
        value_name = "ACT,...",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(ACTS.iter().map(|act| act.name))
    )]
    only: Vec<String>,
    /// Run the long acts, too: many, startup.
    #[arg(long, conflicts_with = "only")]
    all: bool,
    /// Skip a server.
    #[arg(
        long,
        value_name = "SERVER,...",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(Contender::ALL.map(Contender::name))
    )]
    without: Vec<String>,
    /// Number of CoValues in the store of the act `startup`.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    co_values: u64,
    /// Write the tables and plots to `benchmarks.md` and `benchmarks/` in this folder. Acts that do
    /// not run keep their last figures, marked with their commit.
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
    /// The binary of Downbeat.
    #[arg(long)]
    downbeat: PathBuf,
    /// The folder of the reference server, with its packages installed.
    #[arg(long)]
    reference: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let contenders: Vec<Contender> = Contender::ALL
        .into_iter()
        .filter(|contender| !arguments.without.iter().any(|name| name == contender.name()))
        .collect();
    ensure!(!contenders.is_empty(), "no server is left to measure");
    let mut played: Vec<(&Act, Record)> = ACTS
        .iter()
        .filter(|act| arguments.plays(act))
        .map(|act| (act, Record::new(act, act.is_of_starts().then_some(arguments.co_values))))
        .collect();
    for round in 0..arguments.rounds.max(1) {
        for (act, record) in &mut played {
            if act.rounds.is_some_and(|rounds| round >= rounds) {
                continue;
            }
            // The order alternates between rounds.
            for at in 0..contenders.len() {
                let contender = contenders[(at + round) % contenders.len()];
                if act.is_of_starts() && contender == Contender::Reference {
                    continue;
                }
                println!("round {}: {}, {}", round + 1, act.name, contender.name());
                play::act(act, contender, arguments, &mut record.figures)
                    .with_context(|| format!("{}, {}", act.name, contender.name()))?;
            }
        }
    }
    for (act, record) in &mut played {
        if !act.is_of_starts() {
            println!("ceiling: {}", act.name);
            play::ceiling(act, arguments, &mut record.figures)
                .with_context(|| format!("{}, null", act.name))?;
        }
    }
    let of_run: Vec<_> = played.iter().map(|(act, record)| (*act, record)).collect();
    println!("\n{}", document::tables(&of_run)?);
    match &arguments.write {
        Some(folder) => write(folder, &played),
        None => Ok(()),
    }
}

impl Arguments {
    fn plays(&self, act: &Act) -> bool {
        if self.only.is_empty() {
            self.all || !act.long
        } else {
            self.only.iter().any(|name| name == act.name)
        }
    }
}

/// Saves the new records, and writes the document from all records.
fn write(folder: &Path, played: &[(&Act, Record)]) -> Result<()> {
    for (act, record) in played {
        record.write(folder, act)?;
    }
    let mut records = Vec::new();
    for act in ACTS {
        if let Some(record) = Record::read(folder, act)? {
            records.push((act, record));
        }
    }
    let records: Vec<_> = records.iter().map(|(act, record)| (*act, record)).collect();
    document::write(folder, &records)?;
    plot::write(&folder.join("benchmarks"), &records)
}

/// Reads a file of the documentation.
fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}
