//! `downbeat import`.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, anyhow, bail};
use downbeat_tools::{Imported, Input, Interrupted, import_file, import_store};
use tokio::runtime::Handle;

use super::progress::ProgressBar;
use super::{EXIT_CODES, Ending, grouped, human_bytes, open, print_json};
use crate::storage::{StorageChoice, StorageFormat};

/// Copy a store or a portable file into a store.
///
/// Checks all ids, hash chains and signatures. Invalid content is left out and listed on standard
/// output. The import adds the content that the target lacks and changes nothing else, so an
/// interrupted import continues when it is started again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, after_long_help = EXAMPLES)]
pub(crate) struct Options {
    /// The source: a store (`sled:DIR` or `sqlite:FILE`), a file made by `downbeat export`, or `-`
    /// for such a file on standard input. Compression is detected.
    from: Source,
    /// The store to write to. It is created if it does not exist.
    to: StorageChoice,
    /// The format of TO, if it is a new SQLite file. An existing file must have this format.
    /// Default: `reference` for a new file.
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
  downbeat import backup.ndjson.zst data:./downbeat-data
  downbeat import sqlite:storage.db data:./downbeat-data
  downbeat import --storage-format native backup.ndjson.zst sqlite:downbeat.db
  ssh server downbeat export sled:/srv/data - | downbeat import - sled:./copy

Exit codes:
  0  the target has all content
  1  an error; imported content stays, and the same command continues from there
  2  a wrong command line
  3  invalid content was left out and is listed";

/// The source of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Store(StorageChoice),
    File(PathBuf),
    Stdin,
}

/// Imports.
pub(super) fn run(options: &Options, runtime: &Handle) -> anyhow::Result<Ending> {
    let progress = ProgressBar::new("importing", options.quiet);
    match &options.from {
        Source::Store(from) => {
            refuse_same(from, &options.to)?;
            let from = open::existing(from, runtime)?;
            let to = open::or_create(&options.to, options.storage_format, runtime)?;
            let result = import_store(&from, &to, &progress);
            progress.finish();
            let ending = print(result, "imported", options.json, options.quiet)?;
            from.close()?;
            to.close()?;
            Ok(ending)
        }
        Source::File(_) | Source::Stdin => {
            let input = match &options.from {
                Source::File(path) => open_file(path)?,
                _ => Input::stdin()?,
            };
            let to = open::or_create(&options.to, options.storage_format, runtime)?;
            let result = import_file(input, &to, &progress);
            progress.finish();
            let ending = print(result, "imported", options.json, options.quiet)?;
            to.close()?;
            Ok(ending)
        }
    }
}

pub(super) fn refuse_same(from: &StorageChoice, to: &StorageChoice) -> anyhow::Result<()> {
    match (from.place()?.path(), to.place()?.path()) {
        (Some(a), Some(b)) if open::is_same(a, b) => {
            bail!("FROM and TO are the same store: {from}");
        }
        _ => Ok(()),
    }
}

fn open_file(path: &std::path::Path) -> anyhow::Result<Input> {
    if path.is_dir() {
        let name = path.display();
        bail!("{name} is a directory; write data:{name} for the store in it");
    }
    Input::open(path).context("FROM is no file; write data:DIR or sqlite:FILE for a store")
}

/// Prints the result, whether or not the import is complete. `done` names the work: "imported".
pub(super) fn print(
    result: Result<Imported, Interrupted>,
    done: &str,
    json: bool,
    quiet: bool,
) -> anyhow::Result<Ending> {
    let (imported, error) = match result {
        Ok(imported) => (Box::new(imported), None),
        Err(Interrupted { imported, error, .. }) => (imported, Some(error)),
    };
    if json {
        print_json(&imported)?;
    } else {
        imported.report.print(&mut std::io::stdout().lock())?;
        if !quiet {
            eprintln!("{}", text(&imported, done));
        }
    }
    if let Some(error) = error {
        return Err(anyhow!(error).context(format!(
            "stopped after {} new CoValues and {} transactions, which are in the target",
            grouped(imported.new_co_values),
            grouped(imported.transactions)
        )));
    }
    Ok(Ending::of(&imported.report))
}

fn text(imported: &Imported, done: &str) -> String {
    let mut text = format!(
        "{done} {} new CoValues and {} transactions ({}) in {:.1} s",
        grouped(imported.new_co_values),
        grouped(imported.transactions),
        human_bytes(imported.bytes),
        imported.seconds,
    );
    if imported.unchanged_co_values > 0 {
        text.push_str("; unchanged CoValues: ");
        text.push_str(&grouped(imported.unchanged_co_values));
    }
    let left_out = imported.report.count();
    if left_out > 0 {
        text.push_str("; problems, listed above: ");
        text.push_str(&grouped(left_out));
    }
    text
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            _ if text == "-" => Ok(Self::Stdin),
            _ if text == "memory" => Err("`memory` is always empty at the start".to_owned()),
            Some(("data" | "sled" | "sqlite", _)) => text.parse().map(Self::Store),
            _ if text.is_empty() => Err("expected a store or a file".to_owned()),
            _ => Ok(Self::File(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_store_a_file_or_standard_input() {
        let parse = str::parse::<Source>;
        assert_eq!(parse("-"), Ok(Source::Stdin));
        assert_eq!(parse("a.ndjson"), Ok(Source::File("a.ndjson".into())));
        assert_eq!(parse("sled:a"), Ok(Source::Store(StorageChoice::Sled("a".into()))));
        assert_eq!(parse("data:a"), Ok(Source::Store(StorageChoice::DataDir("a".into()))));
        for bad in ["", "memory", "data:", "sled:"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
