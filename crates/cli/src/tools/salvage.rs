//! `downbeat salvage`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use downbeat_storage_sled::SledSalvage;
use downbeat_tools::{ProgressObserver, Store, Unit, salvage};
use tokio::runtime::Handle;

use super::progress::ProgressBar;
use super::{EXIT_CODES, Ending, import, open};
use crate::storage::{Place, StorageChoice, StorageFormat};

/// Copy what is left of a damaged sled store into another store.
///
/// Reads the files of the store without sled, and never changes them. Use it if the store does not
/// open, or if `downbeat verify` finds damage. Missing content is listed by CoValue on standard
/// output. Clients that still have it send it again when they connect to a server with the target.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, after_long_help = EXAMPLES)]
pub(crate) struct Options {
    /// The damaged store: `sled:DIR`.
    from: StorageChoice,
    /// The store to write to: `data:DIR`, `sqlite:FILE` or `sled:DIR`. It is created if it does not exist.
    to: StorageChoice,
    /// The format of TO, if it is a new SQLite file. An existing file must have this format.
    /// Default for a new file: `native` in a data directory, else `reference`.
    #[arg(long, value_name = "FORMAT")]
    storage_format: Option<StorageFormat>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  downbeat salvage sled:./old data:./downbeat-data
  downbeat salvage sled:./old sled:./salvaged

Exit codes:
  0  nothing is missing
  1  an error; salvaged content stays, and the same command continues from there
  2  a wrong command line
  3  content is missing and is listed";

/// Salvages.
pub(super) fn run(options: &Options, runtime: &Handle) -> anyhow::Result<Ending> {
    let from = options.from.place()?;
    let dir = match &from {
        Place::Sled(dir) => dir,
        Place::Sqlite(file) | Place::DataFile(file) => bail!(
            "salvage is for sled stores: `downbeat import sqlite:{0} TO` copies what is left of a \
             damaged SQLite file",
            file.display()
        ),
        Place::Memory => bail!("`memory` is always empty at the start"),
    };
    import::refuse_same(&options.from, &options.to)?;
    let salvaged = scan(dir, options.quiet)
        .map_err(open::explain_lock)
        .with_context(|| format!("cannot salvage {from}"))?;
    let losses = salvaged.losses().to_vec();
    let from = Store::new(Arc::new(salvaged), runtime.clone());
    let to = open::or_create(&options.to, options.storage_format, runtime)?;
    let progress = ProgressBar::new("salvaging", options.quiet);
    let result = salvage(&from, &losses, &to, &progress);
    progress.finish();
    let ending = import::print(result, "salvaged", options.json, options.quiet)?;
    to.close()?;
    Ok(ending)
}

fn scan(dir: &Path, quiet: bool) -> anyhow::Result<SledSalvage> {
    let bytes = SledSalvage::bytes_to_read(dir)?;
    let progress = ProgressBar::new("scanning", quiet);
    progress.start(Unit::Bytes, Some(bytes));
    let salvaged = SledSalvage::open(dir, |bytes| progress.add(bytes));
    progress.finish();
    Ok(salvaged?)
}
