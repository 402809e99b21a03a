//! `downbeat convert`.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use downbeat_storage_sqlite::WriteLock;
use downbeat_tools::{Imported, Interrupted, Store, convert};
use serde::Serialize;
use tokio::runtime::Handle;

use super::import::refuse_same;
use super::progress::ProgressBar;
use super::{EXIT_CODES, Ending, grouped, human_bytes, open, print_json};
use crate::conversion::{Completed, Job, Target, Unfinished};
use crate::storage::{DurabilityChoice, OpenOptions, Place, StorageChoice, StorageFormat};

/// Make a new store of another kind or format with everything that a store has.
///
/// Copies deletions and the notes of what upstreams have not acknowledged as well, so that the new
/// store can replace the old one. The source is not changed. TO gets its name when it is complete;
/// an interrupted conversion continues when the same command is run again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, after_long_help = EXAMPLES)]
pub(crate) struct Options {
    /// The store to read: `data:DIR`, `sqlite:FILE` or `sled:DIR`. No server may use it meanwhile.
    from: StorageChoice,
    /// The store to make: `data:DIR`, `sqlite:FILE` or `sled:DIR`. It must not exist.
    to: StorageChoice,
    /// The format of TO, if it is a SQLite file. Default: `native` in a data directory, else
    /// `reference`.
    #[arg(long, value_name = "FORMAT")]
    storage_format: Option<StorageFormat>,
    /// Check all ids, hash chains, signatures and deletions, and leave invalid content out.
    #[arg(long)]
    verify: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  downbeat convert sqlite:storage.db data:./downbeat-data
  downbeat convert data:./downbeat-data sqlite:storage.db
  downbeat convert --verify sled:./old data:./downbeat-data

Exit codes:
  0  the target has all content
  1  an error; there is no target yet, and the same command continues
  2  a wrong command line
  3  the target is complete, except for damaged content, which is listed";

/// The result of a command that had only to finish an earlier one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Finished {
    complete: bool,
    problems: u64,
}

/// Converts.
pub(super) fn run(options: &Options, runtime: &Handle) -> anyhow::Result<Ending> {
    let (from, to) = (&options.from, &options.to);
    refuse_same(from, to)?;
    let place = to.place()?;
    open::check_target(&place, options.storage_format)?;
    let path = place.path().context("the target has no path")?;
    // Without a separator at its end, because the names of other files continue it.
    let path: PathBuf = path.components().collect();
    let job = job(options)?;
    let found = match Target::look(&path, &job)? {
        Target::Complete(unfinished, completed) => {
            return finish_earlier(options, unfinished, completed);
        }
        Target::Unfinished(unfinished) => Some(unfinished),
        Target::Missing => None,
    };
    let source = Source::open(from, runtime)?;
    let mut unfinished = match found {
        Some(unfinished) => unfinished,
        None => Target::create(&path, &job)?,
    };
    let target = open_target(options, &place, &unfinished.path(), runtime)?;
    let progress = ProgressBar::new("converting", options.quiet);
    let result = convert(&source.store, &target, options.verify, &progress);
    progress.finish();
    let imported = print(options, result)?;
    source.close()?;
    target.close()?;
    if matches!(place, Place::Sqlite(_) | Place::DataFile(_)) {
        // Its log must not be left beside it.
        require_unused(&unfinished.path())?;
    }
    let problems = imported.report.count();
    unfinished.complete(Completed { problems })?;
    unfinished.publish()?;
    Ok(Ending::of(&imported.report))
}

/// A source that cannot change meanwhile.
struct Source {
    store: Store,
    lock: Option<WriteLock>,
}

impl Source {
    fn open(choice: &StorageChoice, runtime: &Handle) -> anyhow::Result<Self> {
        let place = choice.place()?;
        let file = match &place {
            Place::Sqlite(file) | Place::DataFile(file) => Some(file),
            // sled itself allows one process only.
            _ => None,
        };
        if let Some(file) = file.filter(|file| file.is_file()) {
            require_unused(file)?;
        }
        let store = open::existing(choice, runtime)?;
        // May correct the totals, so this comes before the lock.
        store.stats()?;
        let lock = file.map(WriteLock::acquire).transpose();
        let lock = lock.map_err(|error| open::explain_lock(error.into()));
        Ok(Self { store, lock: lock? })
    }

    fn close(self) -> anyhow::Result<()> {
        drop(self.lock);
        Ok(self.store.close()?)
    }
}

fn require_unused(file: &Path) -> anyhow::Result<()> {
    WriteLock::require_unused(file).map_err(|error| open::explain_lock(error.into()))
}

/// Opens the target, which has another name until it is complete.
fn open_target(
    options: &Options,
    place: &Place,
    path: &Path,
    runtime: &Handle,
) -> anyhow::Result<Store> {
    let mut format = options.storage_format;
    let unfinished = if let Place::Sled(_) = place {
        Place::Sled(path.to_owned())
    } else {
        if path.exists() {
            require_unused(path)?;
        }
        if let Place::DataFile(_) = place {
            format = format.or(Some(StorageFormat::Native));
        }
        Place::Sqlite(path.to_owned())
    };
    // Closing it flushes everything. A crash before that loses little work.
    let durability = DurabilityChoice::Relaxed;
    let open = OpenOptions { durability, format, ..OpenOptions::default() };
    open::with(&unfinished, open, runtime)
}

fn job(options: &Options) -> anyhow::Result<Job> {
    let full = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let from = match options.from.place()? {
        Place::Memory => Place::Memory,
        Place::Sled(path) => Place::Sled(full(path)),
        Place::Sqlite(path) | Place::DataFile(path) => Place::Sqlite(full(path)),
    };
    Ok(Job {
        from: from.to_string(),
        to: match options.to.place()? {
            Place::Memory => "memory",
            Place::Sled(_) => "sled",
            Place::Sqlite(_) => "sqlite",
            Place::DataFile(_) => "data",
        }
        .to_owned(),
        storage_format: options.storage_format.map(|format| format.name().to_owned()),
        verify: options.verify,
    })
}

/// Gives a target its name whose conversion was interrupted at the very end.
fn finish_earlier(
    options: &Options,
    unfinished: Unfinished,
    completed: Completed,
) -> anyhow::Result<Ending> {
    unfinished.publish()?;
    let Completed { problems } = completed;
    if options.json {
        print_json(&Finished { complete: true, problems })?;
    } else if !options.quiet {
        eprintln!("{} was complete already", options.to);
        if problems > 0 {
            eprintln!("problems that were listed: {}", grouped(problems));
        }
    }
    Ok(if problems == 0 { Ending::Fine } else { Ending::Found })
}

/// Prints the result, whether or not the conversion is complete.
fn print(
    options: &Options,
    result: Result<Imported, Interrupted>,
) -> anyhow::Result<Box<Imported>> {
    let (imported, error) = match result {
        Ok(imported) => (Box::new(imported), None),
        Err(Interrupted { imported, error, .. }) => (imported, Some(error)),
    };
    if options.json {
        print_json(&imported)?;
    } else {
        imported.report.print(&mut std::io::stdout().lock())?;
        if !options.quiet {
            eprintln!("{}", text(&imported));
        }
    }
    match error {
        None => Ok(imported),
        Some(error) => Err(anyhow!(error)).with_context(|| {
            format!(
                "{} is not complete; the same command continues after these {} CoValues",
                options.to,
                grouped(imported.new_co_values + imported.unchanged_co_values),
            )
        }),
    }
}

fn text(imported: &Imported) -> String {
    let mut text = format!(
        "converted {} CoValues and {} transactions ({}) in {:.1} s",
        grouped(imported.new_co_values),
        grouped(imported.transactions),
        human_bytes(imported.bytes),
        imported.seconds,
    );
    if imported.unchanged_co_values > 0 {
        text.push_str("; CoValues that were converted before: ");
        text.push_str(&grouped(imported.unchanged_co_values));
    }
    let problems = imported.report.count();
    if problems > 0 {
        text.push_str("; problems, listed above: ");
        text.push_str(&grouped(problems));
    }
    text
}
