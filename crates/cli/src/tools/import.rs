//! `downbeat import`.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use downbeat_protocol::{CoValueId, Header, SessionCounts};
use downbeat_storage::{StorageError, Stored, Write};
use serde::Serialize;
use tokio::runtime::Handle;

use super::check::{Checked, Extension, Reason, check};
use super::directory::Directory;
use super::file::Input;
use super::findings::{Findings, Report};
use super::intake;
use super::progress::{Progress, Unit};
use super::store::{Store, is_same, path_of};
use super::walk::{join, walk};
use super::writer::{Stopped, Taken, Writer};
use super::{EXIT_CODES, Ending, grouped, human_bytes, print_json};
use crate::storage::StorageChoice;

/// Copy everything from a store or a portable file into a store.
///
/// All ids, hash chains and signatures are checked on the way; what does not hold is left out, and
/// listed on standard output. What the target has already stays, and only what it lacks is added:
/// an import that was broken off goes on where it was when it is started again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, after_long_help = EXAMPLES)]
pub(crate) struct Options {
    /// What to read: a store (`sled:DIR` or `sqlite:FILE`), a file written by `downbeat export` (compressed or
    /// not), or `-` for such a file on standard input.
    from: Source,
    /// The store to write to; it is made if it is not there.
    to: StorageChoice,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  downbeat import backup.ndjson.zst sled:./downbeat-data
  downbeat import sqlite:storage.db sled:./downbeat-data
  ssh server downbeat export sled:/srv/data - | downbeat import - sled:./copy

Exit codes:
  0  everything is in the target
  1  an error; what was imported until then stays, and the same command goes on from there
  2  a wrong command line
  3  something was left out, which is listed";

/// Where an import comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Store(StorageChoice),
    File(PathBuf),
    Stdin,
}

/// What an import came to.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'a> {
    new_co_values: u64,
    transactions: u64,
    bytes: u64,
    unchanged_co_values: u64,
    seconds: f64,
    complete: bool,
    #[serde(flatten)]
    report: &'a Report,
}

/// Imports.
pub(super) fn run(options: &Options, runtime: &Handle) -> anyhow::Result<Ending> {
    let findings = Findings::default();
    match &options.from {
        Source::Store(from) => {
            refuse_same(from, &options.to)?;
            let from = Store::open_existing(from, runtime)?;
            let to = Store::open(&options.to, runtime)?;
            let total = from.count()?;
            let progress = Progress::new("importing", Unit::CoValues, Some(total), options.quiet);
            let writer = Writer::new(&to, &findings);
            let import = StoreImport {
                from: &from,
                to: &to,
                to_is_new: to.count()? == 0,
                directory: Directory::new(vec![from.clone(), to.clone()]),
                writer: &writer,
                findings: &findings,
                progress: &progress,
                unchanged: AtomicU64::new(0),
            };
            let result = writing(&writer, || import.run());
            progress.finish();
            let unchanged = import.unchanged.load(Ordering::Relaxed);
            let ending = tell(options, &findings, writer.taken(), unchanged, &progress, result)?;
            from.close()?;
            to.close()?;
            Ok(ending)
        }
        Source::File(_) | Source::Stdin => {
            let input = match &options.from {
                Source::File(path) => Input::open(path)?,
                _ => Input::stdin()?,
            };
            let to = Store::open(&options.to, runtime)?;
            let progress = Progress::new("importing", Unit::Bytes, input.len(), options.quiet);
            let writer = Writer::new(&to, &findings);
            let result =
                writing(&writer, || intake::take_all(input, &to, &writer, &findings, &progress));
            progress.finish();
            let ending = tell(options, &findings, writer.taken(), 0, &progress, result)?;
            to.close()?;
            Ok(ending)
        }
    }
}

fn refuse_same(from: &StorageChoice, to: &StorageChoice) -> anyhow::Result<()> {
    match (path_of(from), path_of(to)) {
        (Some(a), Some(b)) if is_same(a, b) => {
            bail!("FROM and TO are the same: {from}");
        }
        _ => Ok(()),
    }
}

/// Lets the writer work while something is brought to it. An error of the writer is what counts,
/// because that of whoever brings something follows from it.
fn writing(writer: &Writer<'_>, bring: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let writing = scope.spawn(|| writer.run());
        let brought = std::panic::catch_unwind(std::panic::AssertUnwindSafe(bring));
        writer.close();
        let written = join(writing);
        let brought = brought.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match written {
            Err(error) => Err(anyhow!(error).context("the target could not be written to")),
            Ok(()) => brought,
        }
    })
}

/// Tells what was imported, whether or not it went to the end.
fn tell(
    options: &Options,
    findings: &Findings,
    taken: &Taken,
    unchanged: u64,
    progress: &Progress,
    result: anyhow::Result<()>,
) -> anyhow::Result<Ending> {
    let report = findings.report();
    let outcome = Outcome {
        new_co_values: taken.co_values.load(Ordering::Relaxed),
        transactions: taken.transactions.load(Ordering::Relaxed),
        bytes: taken.bytes.load(Ordering::Relaxed),
        unchanged_co_values: unchanged,
        seconds: progress.elapsed().as_secs_f64(),
        complete: result.is_ok(),
        report: &report,
    };
    if options.json {
        print_json(&outcome)?;
    } else {
        report.print(&mut std::io::stdout().lock())?;
        if !options.quiet {
            eprintln!("{}", outcome.text(progress.elapsed()));
        }
    }
    result.with_context(|| {
        let (values, transactions) = (outcome.new_co_values, outcome.transactions);
        format!(
            "broken off after {} new CoValues and {} transactions, which are in the target",
            grouped(values),
            grouped(transactions)
        )
    })?;
    Ok(if report.is_empty() { Ending::Fine } else { Ending::Found })
}

impl Outcome<'_> {
    fn text(&self, elapsed: Duration) -> String {
        let mut text = format!(
            "imported {} new CoValues and {} transactions ({}) in {:.1} s",
            grouped(self.new_co_values),
            grouped(self.transactions),
            human_bytes(self.bytes),
            elapsed.as_secs_f64(),
        );
        if self.unchanged_co_values > 0 {
            text.push_str("; ");
            text.push_str(&grouped(self.unchanged_co_values));
            text.push_str(" were there already");
        }
        let left_out = self.report.findings.len() as u64 + self.report.more_findings;
        if left_out > 0 {
            text.push_str("; ");
            text.push_str(&grouped(left_out));
            text.push_str(" things were left out, see above");
        }
        text
    }
}

/// From a store.
struct StoreImport<'a> {
    from: &'a Store,
    to: &'a Store,
    /// There was nothing in the target, so there is no need to look what it has.
    to_is_new: bool,
    directory: Directory,
    writer: &'a Writer<'a>,
    findings: &'a Findings,
    progress: &'a Progress,
    /// CoValues of which the target had everything.
    unchanged: AtomicU64,
}

impl StoreImport<'_> {
    fn run(&self) -> anyhow::Result<()> {
        let walked = walk(self.from, |id| {
            self.import(id).with_context(|| format!("in CoValue {id}"))?;
            self.progress.add(1);
            Ok(())
        })?;
        if let Some(damage) = walked.broken_off {
            bail!("the list of CoValues cannot be read to the end: {damage}");
        }
        Ok(())
    }

    fn import(&self, id: CoValueId) -> anyhow::Result<()> {
        let Loaded::Found(theirs) = self.load(self.from, id)? else { return Ok(()) };
        let ours = if self.to_is_new { Loaded::Nothing } else { self.load(self.to, id)? };
        let ours = match ours {
            Loaded::Found(ours) => Some(ours),
            Loaded::Nothing => None,
            Loaded::Damaged => return Ok(()),
        };
        let (mut checked, have, header) = match &ours {
            Some(ours) if !is_behind(ours, &theirs) => {
                self.unchanged.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Some(ours) => {
                let anew = theirs.deleted && !ours.deleted;
                let counts = ours.counts();
                let kept = counts.iter().filter(|(session, _)| !(anew && session.is_delete()));
                let have = kept.cloned().collect();
                (Checked::stored(id, ours, self.to, anew), have, None)
            }
            None => match Checked::new(id, theirs.header.clone()) {
                Ok(checked) => (checked, SessionCounts::new(), Some(theirs.header.clone())),
                Err(reason) => {
                    self.findings.add(id, None, reason);
                    return Ok(());
                }
            },
        };
        let mut outgoing = Outgoing { writer: self.writer, id, header };
        check(
            self.from,
            have,
            &mut checked,
            &self.directory,
            |_, extensions| outgoing.send(extensions).map_err(anyhow::Error::from),
            |session, reason| self.findings.add(id, session, reason),
        )?;
        if theirs.deleted && !checked.is_deleted() {
            self.findings.add(id, None, Reason::NotDeleted);
        } else {
            outgoing.finish()?;
        }
        Ok(())
    }

    /// What a store has of a CoValue. Damage becomes a finding.
    fn load(&self, store: &Store, id: CoValueId) -> Result<Loaded, StorageError> {
        match store.load(id) {
            Ok(Some(stored)) => Ok(Loaded::Found(stored)),
            Ok(None) => Ok(Loaded::Nothing),
            Err(StorageError::Corrupt(damage)) => {
                self.findings.add(id, None, Reason::Damaged(damage));
                Ok(Loaded::Damaged)
            }
            Err(error) => Err(error),
        }
    }
}

enum Loaded {
    Found(Stored),
    Nothing,
    Damaged,
}

/// Whether the target lacks something of a CoValue.
fn is_behind(ours: &Stored, theirs: &Stored) -> bool {
    if ours.deleted != theirs.deleted {
        // What is deleted in the target has nothing to gain.
        return theirs.deleted;
    }
    let counts = ours.counts();
    theirs.sessions.iter().any(|theirs| theirs.count > counts.get(&theirs.session))
}

/// Brings what is in order of one CoValue to the writer.
pub(super) struct Outgoing<'a> {
    pub writer: &'a Writer<'a>,
    pub id: CoValueId,
    /// The header, until it has been brought.
    pub header: Option<Header>,
}

impl Outgoing<'_> {
    /// Brings extensions, with the header if they are the first.
    pub(super) fn send(&mut self, extensions: Vec<Extension>) -> Result<(), Stopped> {
        let mut sessions = Vec::with_capacity(extensions.len());
        let mut tombstones = Vec::new();
        for Extension { content, deletes } in extensions {
            if deletes { tombstones.push(content) } else { sessions.push(content) }
        }
        if !sessions.is_empty() || (self.header.is_some() && !tombstones.is_empty()) {
            let header = self.header.take();
            self.writer.push(Write::Append { id: self.id, header, sessions })?;
        }
        for session in tombstones {
            self.writer.push(Write::Tombstone { id: self.id, session })?;
        }
        Ok(())
    }

    /// Brings the header, if nothing else was brought.
    pub(super) fn finish(&mut self) -> Result<(), Stopped> {
        match self.header.take() {
            Some(header) => {
                let sessions = Vec::new();
                self.writer.push(Write::Append { id: self.id, header: Some(header), sessions })
            }
            None => Ok(()),
        }
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            _ if text == "-" => Ok(Self::Stdin),
            _ if text == "memory" => Err("`memory` is empty when a process begins".to_owned()),
            Some(("sled" | "sqlite", _)) => text.parse().map(Self::Store),
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
        for bad in ["", "memory", "sled:"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
