//! `downbeat verify`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use downbeat_protocol::{CoValueId, SessionCounts};
use downbeat_storage::StorageError;
use serde::Serialize;
use tokio::runtime::Handle;

use super::check::{Checked, Extension, Reason, check};
use super::directory::Directory;
use super::findings::{Finding, Findings, Report};
use super::progress::{Progress, Unit};
use super::store::Store;
use super::walk::walk;
use super::writer::json_len;
use super::{EXIT_CODES, Ending, grouped, human_bytes, print_json};
use crate::storage::StorageChoice;

/// Check everything in a store again: ids, hash chains, signatures and deletions.
///
/// What is broken is listed on standard output, and everything else is checked nevertheless.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, after_long_help = EXAMPLES)]
pub(crate) struct Options {
    /// The store: `sled:DIR` or `sqlite:FILE`.
    #[arg(default_value = "sled:./downbeat-data")]
    store: StorageChoice,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  downbeat verify sled:./downbeat-data
  downbeat verify --json sled:./downbeat-data | jq '.findings[].coValue'

Exit codes:
  0  everything holds
  1  an error: the store could not be checked to the end
  2  a wrong command line
  3  something is broken, which is listed";

/// What a check came to.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'a> {
    co_values: u64,
    transactions: u64,
    bytes: u64,
    seconds: f64,
    #[serde(flatten)]
    report: &'a Report,
}

/// Verifies.
pub(super) fn run(options: &Options, runtime: &Handle) -> anyhow::Result<Ending> {
    let store = Store::open_existing(&options.store, runtime)?;
    let counted = store.count()?;
    let verify = Verify {
        store: &store,
        directory: Directory::new(vec![store.clone()]),
        findings: Findings::default(),
        progress: Progress::new("verifying", Unit::CoValues, Some(counted), options.quiet),
        transactions: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    };
    let listed = verify.run(counted);
    verify.progress.finish();
    let listed = listed?;
    store.close()?;
    let report = verify.findings.report();
    let outcome = Outcome {
        co_values: listed,
        transactions: verify.transactions.load(Ordering::Relaxed),
        bytes: verify.bytes.load(Ordering::Relaxed),
        seconds: verify.progress.elapsed().as_secs_f64(),
        report: &report,
    };
    if options.json {
        print_json(&outcome)?;
    } else {
        report.print(&mut std::io::stdout().lock())?;
        if !options.quiet {
            eprintln!("{}", outcome.text(verify.progress.elapsed()));
        }
    }
    Ok(if report.is_empty() { Ending::Fine } else { Ending::Found })
}

impl Outcome<'_> {
    fn text(&self, elapsed: Duration) -> String {
        let broken = self.report.findings.len() as u64 + self.report.more_findings;
        let verdict = match broken {
            0 => "everything holds".to_owned(),
            broken => format!("{} things are broken, see above", grouped(broken)),
        };
        format!(
            "checked {} CoValues with {} transactions that hold ({}) in {:.1} s: {verdict}",
            grouped(self.co_values),
            grouped(self.transactions),
            human_bytes(self.bytes),
            elapsed.as_secs_f64(),
        )
    }
}

struct Verify<'a> {
    store: &'a Store,
    directory: Directory,
    findings: Findings,
    progress: Progress,
    /// What holds.
    transactions: AtomicU64,
    bytes: AtomicU64,
}

impl Verify<'_> {
    /// Checks everything, and returns the number of CoValues.
    fn run(&self, counted: u64) -> anyhow::Result<u64> {
        let walked = walk(self.store, |id| {
            self.verify(id).with_context(|| format!("in CoValue {id}"))?;
            self.progress.add(1);
            Ok(())
        })?;
        let listed = walked.listed;
        // A server may write to a SQLite file meanwhile, so there may be more than at first.
        let most = self.store.count()?.max(counted);
        let overall = match walked.broken_off {
            Some(damage) => Some(Reason::Damaged(damage)),
            None if !(counted..=most).contains(&listed) => {
                Some(Reason::WrongCount { listed, counted })
            }
            None => None,
        };
        if let Some(reason) = overall {
            self.findings.push(Finding { line: None, co_value: None, session: None, reason });
        }
        Ok(listed)
    }

    fn verify(&self, id: CoValueId) -> anyhow::Result<()> {
        let stored = match self.store.load(id) {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(()),
            Err(StorageError::Corrupt(damage)) => {
                self.findings.add(id, None, Reason::Damaged(damage));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let mut checked = match Checked::new(id, stored.header) {
            Ok(checked) => checked,
            Err(reason) => {
                self.findings.add(id, None, reason);
                return Ok(());
            }
        };
        let count = |_: &Checked, extensions: Vec<Extension>| {
            for Extension { content, .. } in extensions {
                let transactions = content.transactions.len() as u64;
                self.transactions.fetch_add(transactions, Ordering::Relaxed);
                self.bytes.fetch_add(json_len(&content) as u64, Ordering::Relaxed);
            }
            Ok::<_, StorageError>(())
        };
        check(
            self.store,
            SessionCounts::new(),
            &mut checked,
            &self.directory,
            count,
            |s, reason| {
                self.findings.add(id, s, reason);
            },
        )?;
        if stored.deleted && !checked.is_deleted() {
            self.findings.add(id, None, Reason::NotDeleted);
        }
        Ok(())
    }
}
