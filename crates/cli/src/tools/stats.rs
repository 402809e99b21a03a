//! `downbeat stats`.

use std::io::Write;

use serde::Serialize;
use tokio::runtime::Handle;

use super::{DEFAULT_STORE, EXIT_CODES, Ending, grouped, human_bytes, open, print_json};
use crate::storage::{self, StorageChoice, StorageFormat};

/// Show the size of a store, from its totals, without a scan.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, after_long_help = EXAMPLES)]
pub(crate) struct Options {
    /// The store: `data:DIR`, `sqlite:FILE` or `sled:DIR`.
    #[arg(default_value = DEFAULT_STORE)]
    store: StorageChoice,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  downbeat stats data:./downbeat-data
  downbeat stats --json | jq .transactions

Exit codes:
  0  success
  1  an error
  2  a wrong command line";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    format: Option<&'static str>,
    co_values: u64,
    deleted: u64,
    sessions: u64,
    transactions: u64,
    transaction_bytes: u64,
    disk_bytes: Option<u64>,
}

/// Shows the figures.
pub(super) fn run(options: &Options, runtime: &Handle) -> anyhow::Result<Ending> {
    let store = open::existing(&options.store, runtime)?;
    let stats = store.stats()?;
    store.close()?;
    let format = storage::format_of(&options.store.place()?)?.map(StorageFormat::name);
    let figures = Figures {
        format,
        co_values: stats.co_values,
        deleted: stats.deleted,
        sessions: stats.sessions,
        transactions: stats.transactions,
        transaction_bytes: stats.transaction_bytes,
        disk_bytes: stats.disk_bytes,
    };
    if options.json {
        print_json(&figures)?;
    } else {
        let mut out = std::io::stdout().lock();
        if let Some(format) = figures.format {
            writeln!(out, "format        {format}")?;
        }
        writeln!(out, "CoValues      {}", grouped(figures.co_values))?;
        writeln!(out, "  deleted     {}", grouped(figures.deleted))?;
        writeln!(out, "sessions      {}", grouped(figures.sessions))?;
        writeln!(out, "transactions  {}", grouped(figures.transactions))?;
        writeln!(out, "  their JSON  {}", human_bytes(figures.transaction_bytes))?;
        if let Some(bytes) = figures.disk_bytes {
            writeln!(out, "on disk       {}", human_bytes(bytes))?;
        }
    }
    Ok(Ending::Fine)
}
