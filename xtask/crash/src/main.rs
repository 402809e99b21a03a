//! Kills the real server, damages its files and fills its disk, and checks the data that is left:
//! `cargo xtask crash`.

mod client;
mod copies;
mod damage;
mod data_dir;
mod forger;
mod kills;
mod moved;
mod people;
mod power;
mod server;
mod shortage;
mod truth;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::data_dir::Kind;
use crate::kills::Run;
use crate::shortage::Means;

/// Kill the real server, damage its files and fill its disk, and check the data that is left.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask crash", bin_name = "cargo xtask crash")]
struct Arguments {
    /// The binary of the server.
    #[arg(long)]
    binary: PathBuf,
    /// Number of kills.
    #[arg(long, default_value_t = 100)]
    kills: u64,
    /// The kind of storage [default: all kinds].
    #[arg(long, value_enum)]
    storage: Option<Kind>,
    /// Number of places to damage in the files of a store, one at a time.
    #[arg(long, default_value_t = 200)]
    places: usize,
    /// Number of power failures.
    #[arg(long, default_value_t = 200)]
    cuts: usize,
    /// Steps of each client in each life of the server whose power fails.
    #[arg(long, default_value_t = 500)]
    steps: usize,
    /// The test to run. Can be given several times [default: all except `disk` and
    /// `power`].
    #[arg(long, value_enum, value_name = "PART")]
    part: Vec<Part>,
    /// Option for the server, for example `--server-option=--durability=relaxed`. Can be given
    /// several times.
    #[arg(long = "server-option")]
    server_options: Vec<String>,
    /// Seed of the random numbers [default: random, and printed].
    #[arg(long)]
    seed: Option<u64>,
}

/// The tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Kill the server at random times.
    Kills,
    /// Damage its files.
    Damage,
    /// Limit the length of its files while it runs.
    Limit,
    /// Fill the file system of the store. Needs the right to mount one.
    Disk,
    /// Move its store away while it runs, and delete it.
    Moved,
    /// Start it in a directory that it must not write.
    ReadOnly,
    /// Cut its power. Needs Linux and a C compiler.
    Power,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(&arguments)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("seed {seed}");
    for kind in Kind::ALL {
        if arguments.storage.is_none_or(|wanted| wanted == kind) {
            let run = Run {
                binary: arguments.binary.clone(),
                kind,
                seed,
                kills: arguments.kills,
                options: arguments.server_options.clone(),
            };
            let wanted = |part: Part| match &arguments.part[..] {
                [] => !matches!(part, Part::Disk | Part::Power),
                parts => parts.contains(&part),
            };
            if wanted(Part::Kills) {
                run.run().await?;
            }
            if wanted(Part::Damage) {
                damage::run(&run, arguments.places).await?;
            }
            if wanted(Part::Limit) {
                shortage::run(&run, Means::Limit).await?;
            }
            if wanted(Part::Disk) {
                shortage::run(&run, Means::Disk).await?;
            }
            if wanted(Part::Moved) {
                moved::run(&run).await?;
            }
            if wanted(Part::ReadOnly) {
                shortage::refuse_read_only(&run).await?;
            }
            if wanted(Part::Power) {
                let Arguments { cuts, steps, .. } = *arguments;
                power::run(&run, power::Extent { cuts, steps }).await?;
            }
        }
    }
    Ok(())
}
