//! `downbeat compact`.

use anyhow::Context;
use downbeat_storage::Compacted;
use downbeat_storage_sled::SledStorage;
use downbeat_storage_sqlite::SqliteStorage;
use downbeat_tools::{ProgressObserver, Unit};
use serde::Serialize;

use super::progress::ProgressBar;
use super::{EXIT_CODES, Ending, human_bytes, open, print_json};
use crate::storage::{Place, StorageChoice};

/// Compact a store: give space back to the file system that the store no longer uses.
///
/// Stop the server first. The work needs free space for a copy of the content. If it is interrupted,
/// also by a kill, the store stays as it was or is compacted; run the command again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, after_long_help = EXAMPLES)]
pub(crate) struct Options {
    /// The store: `data:DIR`, `sqlite:FILE` or `sled:DIR`.
    store: StorageChoice,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  downbeat compact data:./downbeat-data
  downbeat compact sqlite:storage.db

Exit codes:
  0  the store is compacted
  1  an error; the store is as it was
  2  a wrong command line";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    bytes_before: u64,
    bytes_after: u64,
}

/// Compacts.
pub(super) fn run(options: &Options) -> anyhow::Result<Ending> {
    let store = &options.store.place()?;
    open::require_existing(store)?;
    let progress = ProgressBar::new("compacting", options.quiet);
    let compacted = compact(store, &progress);
    progress.finish();
    let compacted = compacted
        .map_err(open::explain_lock)
        .with_context(|| format!("cannot compact {store}, which is as it was"))?;
    let Compacted { bytes_before, bytes_after, .. } = compacted;
    if options.json {
        print_json(&Figures { bytes_before, bytes_after })?;
    } else if !options.quiet {
        let (before, after) = (human_bytes(bytes_before), human_bytes(bytes_after));
        println!("compacted {store} from {before} to {after}");
    }
    Ok(Ending::Fine)
}

fn compact(store: &Place, progress: &ProgressBar) -> anyhow::Result<Compacted> {
    Ok(match store {
        Place::Sled(dir) => {
            let mut last = None;
            SledStorage::compact(dir, |done, all| {
                if last.is_none() {
                    progress.start(Unit::CoValues, Some(all));
                }
                progress.add(done - last.replace(done).unwrap_or(0));
            })?
        }
        // SQLite does not say how far it is.
        Place::Sqlite(file) | Place::DataFile(file) => SqliteStorage::compact(file)?,
        Place::Memory => anyhow::bail!("`memory` has no files"),
    })
}
