//! `downbeat verify`.

use downbeat_tools::{VerifyReport, verify};
use tokio::runtime::Handle;

use super::progress::ProgressBar;
use super::{DEFAULT_STORE, EXIT_CODES, Ending, grouped, human_bytes, open, print_json};
use crate::storage::StorageChoice;

/// Check everything in a store again: ids, hash chains, signatures and deletions.
///
/// Lists broken content on standard output, and continues with the rest.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, after_long_help = EXAMPLES)]
pub(crate) struct Options {
    /// The store: `data:DIR`, `sqlite:FILE` or `sled:DIR`.
    #[arg(default_value = DEFAULT_STORE)]
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
  downbeat verify data:./downbeat-data
  downbeat verify --json data:./downbeat-data | jq '.findings[].coValue'

Exit codes:
  0  all content is valid
  1  an error; the check is incomplete
  2  a wrong command line
  3  content is broken and is listed";

/// Verifies.
pub(super) fn run(options: &Options, runtime: &Handle) -> anyhow::Result<Ending> {
    let store = open::existing(&options.store, runtime)?;
    let progress = ProgressBar::new("verifying", options.quiet);
    let verified = verify(&store, &progress);
    progress.finish();
    let verified = verified?;
    store.close()?;
    if options.json {
        print_json(&verified)?;
    } else {
        verified.report.print(&mut std::io::stdout().lock())?;
        if !options.quiet {
            eprintln!("{}", text(&verified));
        }
    }
    Ok(Ending::of(&verified.report))
}

fn text(verified: &VerifyReport) -> String {
    let verdict = match verified.report.count() {
        0 => "no problems".to_owned(),
        count => format!("problems, listed above: {}", grouped(count)),
    };
    format!(
        "checked {} CoValues with {} valid transactions ({}) in {:.1} s; {verdict}",
        grouped(verified.co_values),
        grouped(verified.transactions),
        human_bytes(verified.bytes),
        verified.seconds,
    )
}
