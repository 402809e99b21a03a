//! Downbeat and the reference server side by side: the same load by the same clients, in turn, on
//! one machine.
//!
//! Each round starts every server on an empty store and plays the workloads of [`plan`] with
//! `downbeat bench`, whose reports are read as JSON. From the medians over the rounds come a table
//! and plots for `docs/benchmarks.md`.

mod document;
mod figures;
mod machine;
mod plan;
mod plot;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::figures::{Figures, Report};
use crate::plan::{Act, Step};
use crate::server::{Contender, Server};

/// Compare Downbeat with the reference server.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench compare", bin_name = "cargo xtask bench compare")]
struct Arguments {
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Play only acts whose name contains this: uploads, cold, stream, long, sessions, idle, many.
    #[arg(long)]
    only: Option<String>,
    /// Leave out a server: reference, sled, sqlite.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Write the table and the plots into this folder's `benchmarks.md` and `benchmarks/`.
    #[arg(long)]
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
    let acts: Vec<&Act> = plan::ACTS
        .iter()
        .filter(|act| arguments.only.as_ref().is_none_or(|only| act.name.contains(only.as_str())))
        .collect();
    ensure!(!contenders.is_empty() && !acts.is_empty(), "nothing is left to be measured");
    let mut figures = Figures::default();
    for round in 0..arguments.rounds.max(1) {
        for act in &acts {
            // Now the one is first, now the other.
            for at in 0..contenders.len() {
                let contender = contenders[(at + round) % contenders.len()];
                if act.rounds.is_some_and(|rounds| round >= rounds) {
                    continue;
                }
                println!("round {}: {}, {}", round + 1, act.name, contender.name());
                play(act, contender, arguments, &mut figures)
                    .with_context(|| format!("{}, {}", act.name, contender.name()))?;
            }
        }
    }
    // The clients against a server that does nothing: what they could do at most.
    for act in &acts {
        println!("ceiling: {}", act.name);
        ceiling(act, arguments, &mut figures).with_context(|| format!("{}, null", act.name))?;
    }
    let text = document::table(&figures, &contenders)?;
    println!("\n{text}");
    if let Some(folder) = &arguments.write {
        document::write(folder, &text, &figures, arguments.rounds)?;
        plot::write(&folder.join("benchmarks"), &figures)?;
    }
    Ok(())
}

/// One server through one act, from an empty store on.
fn play(
    act: &Act,
    contender: Contender,
    arguments: &Arguments,
    figures: &mut Figures,
) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let start = || Server::start(contender, arguments, folder.path());
    let mut server = start()?;
    for step in act.steps {
        match step {
            Step::Restart => {
                server.stop()?;
                server = start()?;
            }
            Step::Play(workload) => {
                let report =
                    bench(arguments, server.url(), Some(server.pid()), workload.arguments)?;
                println!("    {:<28} {}", workload.name, report.summary());
                figures.add(workload.name, contender.name(), report);
            }
        }
    }
    server.stop()
}

/// The workloads of an act against the null server. Those that need a store which has them are
/// played in the same order, so it has.
fn ceiling(act: &Act, arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let server = Server::start_null(arguments)?;
    for step in act.steps {
        if let Step::Play(workload) = step {
            let report = bench(arguments, server.url(), None, workload.arguments)?;
            println!("    {:<28} {}", workload.name, report.summary());
            figures.add(workload.name, figures::CEILING, report);
        }
    }
    server.stop()
}

fn bench(arguments: &Arguments, url: &str, pid: Option<u32>, workload: &[&str]) -> Result<Report> {
    let mut command = Command::new(&arguments.downbeat);
    command.arg("bench").args(workload).args(["--json", "--url", url]);
    if let Some(pid) = pid {
        command.args(["--server-pid", &pid.to_string()]);
    }
    let output = command.output().context("the clients could not be started")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", workload.join(" "), errors.trim());
    serde_json::from_slice(&output.stdout).context("the report is not as expected")
}

/// A file of the documentation, to be changed.
fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}
