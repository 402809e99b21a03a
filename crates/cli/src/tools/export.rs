//! `downbeat export`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use downbeat_protocol::{CoValueId, Content, Header, SessionContent, SessionCounts};
use downbeat_storage::StorageError;
use serde::Serialize;
use tokio::runtime::Handle;

use super::check::{Checked, Extension, Reason, check};
use super::directory::Directory;
use super::file::{Output, Totals, encode};
use super::findings::{Findings, Report};
use super::progress::{Progress, Unit};
use super::store::Store;
use super::walk::walk;
use super::{EXIT_CODES, Ending, grouped};
use crate::storage::StorageChoice;

/// Lines that a thread gathers before it writes them, so that threads do not queue for the file.
const GATHERED_BYTES: usize = 256 << 10;

/// Copy everything from a store into one portable file.
///
/// All ids, hash chains and signatures are checked on the way; what does not hold is left out, and
/// listed on standard error. `docs/tools.md` describes the file: content messages of the protocol,
/// one on each line.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, after_long_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line are bools")]
pub(crate) struct Options {
    /// The store to read: `sled:DIR` or `sqlite:FILE`.
    from: StorageChoice,
    /// The file to write, or `-` for standard output. A name that ends with `.zst` is compressed.
    file: PathBuf,
    /// Compress with zstd, whatever the name.
    #[arg(long)]
    zstd: bool,
    /// Replace the file if there is one.
    #[arg(long)]
    force: bool,
    /// Print the outcome as JSON on standard error.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  downbeat export sled:./downbeat-data backup.ndjson.zst
  downbeat export sled:./downbeat-data - | gzip > backup.ndjson.gz

Exit codes:
  0  everything is in the file
  1  an error; there is no new file
  2  a wrong command line
  3  something was left out, which is listed";

/// What an export came to.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'a> {
    #[serde(flatten)]
    totals: Totals,
    seconds: f64,
    #[serde(flatten)]
    report: &'a Report,
}

/// Exports.
pub(super) fn run(options: &Options, runtime: &Handle) -> anyhow::Result<Ending> {
    let is_stdout = options.file == Path::new("-");
    if !is_stdout && !options.force && options.file.exists() {
        bail!("{} is there already; --force replaces it", options.file.display());
    }
    let from = Store::open_existing(&options.from, runtime)?;
    let compress = options.zstd || options.file.extension().is_some_and(|ending| ending == "zst");
    let output = if is_stdout {
        Output::stdout(compress)?
    } else {
        Output::create(&options.file, compress)?
    };
    // Every CoValue is looked at once for each kind.
    let total = from.count()?.saturating_mul(Kind::ALL.len() as u64);
    let export = Export {
        from: &from,
        directory: Directory::new(vec![from.clone()]),
        output: Mutex::new(output),
        findings: Findings::default(),
        progress: Progress::new("exporting", Unit::CoValues, Some(total), options.quiet),
    };
    let result = Kind::ALL.into_iter().try_for_each(|kind| export.run(kind));
    export.progress.finish();
    let Export { output, findings, progress, .. } = export;
    result?;
    let totals = output.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
    from.close()?;
    tell(options, totals, progress.elapsed(), &findings.report())
}

/// Standard output may be the file, so this goes to standard error.
fn tell(
    options: &Options,
    totals: Totals,
    elapsed: Duration,
    report: &Report,
) -> anyhow::Result<Ending> {
    if options.json {
        let outcome = Outcome { totals, seconds: elapsed.as_secs_f64(), report };
        eprintln!("{}", serde_json::to_string_pretty(&outcome)?);
    } else {
        report.print(&mut std::io::stderr().lock())?;
        if !options.quiet {
            eprintln!(
                "exported {} CoValues and {} transactions in {:.1} s",
                grouped(totals.co_values),
                grouped(totals.transactions),
                elapsed.as_secs_f64(),
            );
        }
    }
    Ok(if report.is_empty() { Ending::Fine } else { Ending::Found })
}

/// What comes first in the file, so that whoever reads it knows the authors of what they check,
/// and the groups of what was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Account,
    Group,
    Other,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Account, Self::Group, Self::Other];

    fn of(header: &Header) -> Self {
        match header {
            _ if header.account_agent().is_some() => Self::Account,
            _ if header.is_group() => Self::Group,
            _ => Self::Other,
        }
    }
}

struct Export<'a> {
    from: &'a Store,
    directory: Directory,
    output: Mutex<Output>,
    findings: Findings,
    progress: Progress,
}

impl Export<'_> {
    fn run(&self, kind: Kind) -> anyhow::Result<()> {
        let walked = walk(self.from, |id| {
            self.export(id, kind).with_context(|| format!("in CoValue {id}"))?;
            self.progress.add(1);
            Ok(())
        })?;
        if let Some(damage) = walked.broken_off {
            bail!("the list of CoValues cannot be read to the end: {damage}");
        }
        Ok(())
    }

    fn export(&self, id: CoValueId, kind: Kind) -> anyhow::Result<()> {
        let stored = match self.from.load(id) {
            Ok(Some(stored)) if Kind::of(&stored.header) == kind => stored,
            Ok(_) => return Ok(()),
            Err(StorageError::Corrupt(damage)) => {
                if kind == Kind::Other {
                    self.findings.add(id, None, Reason::Damaged(damage));
                }
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let mut checked = match Checked::new(id, stored.header.clone()) {
            Ok(checked) => checked,
            Err(reason) => {
                self.findings.add(id, None, reason);
                return Ok(());
            }
        };
        let mut lines = Lines {
            export: self,
            id,
            header: stored.header.clone(),
            is_begun: false,
            bytes: Vec::new(),
            totals: Totals::default(),
            output: None,
        };
        check(
            self.from,
            SessionCounts::new(),
            &mut checked,
            &self.directory,
            |_, extensions| lines.add(extensions),
            |session, reason| self.findings.add(id, session, reason),
        )?;
        if stored.deleted && !checked.is_deleted() {
            self.findings.add(id, None, Reason::NotDeleted);
            return Ok(());
        }
        lines.finish()
    }
}

/// The lines of one CoValue, which stay together in the file.
struct Lines<'a> {
    export: &'a Export<'a>,
    id: CoValueId,
    header: Header,
    is_begun: bool,
    bytes: Vec<u8>,
    totals: Totals,
    /// The file, once this CoValue has begun to be written.
    output: Option<MutexGuard<'a, Output>>,
}

impl Lines<'_> {
    fn add(&mut self, extensions: Vec<Extension>) -> anyhow::Result<()> {
        let mut sessions: Vec<SessionContent> = Vec::new();
        for Extension { content, .. } in extensions {
            // A message has one run of a session at most.
            if sessions.iter().any(|run| run.session == content.session) {
                self.message(std::mem::take(&mut sessions));
            }
            sessions.push(content);
        }
        if !sessions.is_empty() {
            self.message(sessions);
        }
        if self.bytes.len() > GATHERED_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        if !self.is_begun {
            self.message(Vec::new());
        }
        self.write()
    }

    fn message(&mut self, sessions: Vec<SessionContent>) {
        let is_first = !std::mem::replace(&mut self.is_begun, true);
        self.totals.co_values += u64::from(is_first);
        self.totals.messages += 1;
        self.totals.transactions +=
            sessions.iter().map(|run| run.transactions.len() as u64).sum::<u64>();
        let content = Content {
            id: self.id,
            header: is_first.then(|| self.header.clone()),
            priority: self.header.priority(),
            sessions,
            malformed: Vec::new(),
            expect_content_until: None,
        };
        encode(content, &mut self.bytes);
    }

    fn write(&mut self) -> anyhow::Result<()> {
        let export = self.export;
        let output = self
            .output
            .get_or_insert_with(|| export.output.lock().unwrap_or_else(PoisonError::into_inner));
        output
            .write(&self.bytes, std::mem::take(&mut self.totals))
            .context("the file could not be written")?;
        self.bytes.clear();
        Ok(())
    }
}
