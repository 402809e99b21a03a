//! `downbeat export`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use downbeat_tools::{Exported, Output, export};
use tokio::runtime::Handle;

use super::progress::ProgressBar;
use super::{EXIT_CODES, Ending, grouped, open, printable_json};
use crate::storage::StorageChoice;

/// Copy a store into one portable file.
///
/// Checks all ids, hash chains and signatures. Invalid content is left out and listed on standard
/// error. The file holds content messages of the protocol, one per line; `docs/tools.md` describes
/// it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, after_long_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line are bools")]
pub(crate) struct Options {
    /// The store to read: `data:DIR`, `sqlite:FILE` or `sled:DIR`.
    from: StorageChoice,
    /// The file to write, or `-` for standard output. The suffix `.zst` turns on compression.
    file: PathBuf,
    /// Compress with zstd, whatever the name of the file.
    #[arg(long)]
    zstd: bool,
    /// Replace the file if it exists.
    #[arg(long)]
    force: bool,
    /// Print the result as JSON on standard error.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  downbeat export data:./downbeat-data backup.ndjson.zst
  downbeat export data:./downbeat-data - | gzip > backup.ndjson.gz

Exit codes:
  0  the file holds all content
  1  an error; no file was made
  2  a wrong command line
  3  invalid content was left out and is listed";

/// Exports.
pub(super) fn run(options: &Options, runtime: &Handle) -> anyhow::Result<Ending> {
    let is_stdout = options.file == Path::new("-");
    if !is_stdout && !options.force && options.file.exists() {
        bail!("{} exists already; --force replaces it", options.file.display());
    }
    let from = open::existing(&options.from, runtime)?;
    let compress = options.zstd || options.file.extension().is_some_and(|ending| ending == "zst");
    let output = if is_stdout {
        Output::stdout(compress)?
    } else {
        Output::create(&options.file, compress)?
    };
    let progress = ProgressBar::new("exporting", options.quiet);
    let exported = export(&from, output, &progress);
    progress.finish();
    let exported = exported?;
    from.close()?;
    print(options, &exported)
}

/// Prints to standard error, because standard output may be the file.
fn print(options: &Options, exported: &Exported) -> anyhow::Result<Ending> {
    if options.json {
        eprintln!("{}", printable_json(exported)?);
    } else {
        exported.report.print(&mut std::io::stderr().lock())?;
        if !options.quiet {
            eprintln!(
                "exported {} CoValues and {} transactions in {:.1} s",
                grouped(exported.totals.co_values),
                grouped(exported.totals.transactions),
                exported.seconds,
            );
        }
    }
    Ok(Ending::of(&exported.report))
}
