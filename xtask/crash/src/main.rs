//! Kills, damages and starves the real server, and looks at what is left: `cargo xtask crash`.

mod client;
mod copies;
mod damage;
mod kills;
mod liar;
mod moved;
mod people;
mod places;
mod server;
mod shortage;
mod truth;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::kills::Run;
use crate::places::Kind;
use crate::shortage::Means;

/// Kill, damage and starve the real server, and look at what is left.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask crash", bin_name = "cargo xtask crash")]
struct Arguments {
    /// The server.
    #[arg(long)]
    binary: PathBuf,
    /// How often to kill it.
    #[arg(long, default_value_t = 100)]
    kills: u64,
    /// The kind of storage; all kinds if it is not given.
    #[arg(long, value_enum)]
    storage: Option<Kind>,
    /// How many places in a store's files to damage, one at a time.
    #[arg(long, default_value_t = 200)]
    places: usize,
    /// What to do; everything but `disk` if it is not given. Can be given several times.
    #[arg(long, value_enum, value_name = "PART")]
    part: Vec<Part>,
    /// Further options for the server, as in `--server-option=--durability=relaxed`.
    #[arg(long = "server-option")]
    server_options: Vec<String>,
    /// Where chance comes from; printed and random if it is not given.
    #[arg(long)]
    seed: Option<u64>,
}

/// What can be done to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Kill it at random moments.
    Kills,
    /// Damage its files.
    Damage,
    /// Limit the length of its files while it runs.
    Limit,
    /// Fill up the file system on which it runs. Takes the right to mount one.
    Disk,
    /// Move its store away while it runs, and delete it.
    Moved,
    /// Start it where it may not write.
    ReadOnly,
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
                [] => part != Part::Disk,
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
        }
    }
    Ok(())
}
