//! Import from a store or a portable file into a store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use downbeat_protocol::{CoValueId, SessionCounts};
use downbeat_storage::{StorageError, StoredCoValue};
use serde::Serialize;

use crate::check::{Checked, Reason, check};
use crate::directory::Directory;
use crate::error::Error;
use crate::file::Input;
use crate::findings::{Findings, FindingsReport};
use crate::import_lines::import_lines;
use crate::outgoing::Outgoing;
use crate::progress::{ProgressObserver, Unit};
use crate::store::Store;
use crate::walk::{join, walk};
use crate::writer::Writer;

/// The result of an import or a conversion.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Imported {
    /// CoValues that the target did not have.
    pub new_co_values: u64,
    /// Transactions that were added.
    pub transactions: u64,
    /// Bytes of JSON in these transactions.
    pub bytes: u64,
    /// CoValues that the target had in full. Not counted for an import from a file.
    pub unchanged_co_values: u64,
    /// How long it took.
    pub seconds: f64,
    /// Whether the whole source was read.
    pub complete: bool,
    /// The content that was left out.
    #[serde(flatten)]
    pub report: FindingsReport,
}

/// An import or conversion that failed, with the part that succeeded.
///
/// The same one, started again, continues from there.
#[derive(Debug, thiserror::Error)]
#[error("stopped after {} new CoValues", .imported.new_co_values)]
#[non_exhaustive]
pub struct Interrupted {
    /// The content that is in the target now.
    pub imported: Box<Imported>,
    /// The error that stopped it.
    #[source]
    pub error: Error,
}

/// Copies the content that `to` lacks from another store.
pub fn import_store(
    from: &Store,
    to: &Store,
    progress: &dyn ProgressObserver,
) -> Result<Imported, Interrupted> {
    let unchanged = AtomicU64::new(0);
    run(to, &unchanged, |writer, findings| {
        progress.start(Unit::CoValues, Some(from.count()?));
        let import = StoreImport {
            from,
            to,
            to_is_new: to.count()? == 0,
            directory: Directory::new(vec![from.clone(), to.clone()]),
            writer,
            findings,
            progress,
            unchanged: &unchanged,
        };
        import.run()
    })
}

/// Copies the content that `to` lacks from a portable file.
pub fn import_file(
    input: Input,
    to: &Store,
    progress: &dyn ProgressObserver,
) -> Result<Imported, Interrupted> {
    run(to, &AtomicU64::new(0), |writer, findings| {
        progress.start(Unit::Bytes, input.len());
        import_lines(input, to, writer, findings, progress)
    })
}

/// Runs the writer beside a producer, and collects the result.
pub(crate) fn run(
    to: &Store,
    unchanged: &AtomicU64,
    produce: impl FnOnce(&Writer<'_>, &Findings) -> Result<(), Error>,
) -> Result<Imported, Interrupted> {
    let started = Instant::now();
    let findings = Findings::default();
    let writer = Writer::new(to, &findings);
    let result = writing(&writer, || produce(&writer, &findings));
    let counts = writer.counts();
    let imported = Imported {
        new_co_values: counts.co_values.load(Ordering::Relaxed),
        transactions: counts.transactions.load(Ordering::Relaxed),
        bytes: counts.bytes.load(Ordering::Relaxed),
        unchanged_co_values: unchanged.load(Ordering::Relaxed),
        seconds: started.elapsed().as_secs_f64(),
        complete: result.is_ok(),
        report: findings.report(),
    };
    match result {
        Ok(()) => Ok(imported),
        Err(error) => Err(Interrupted { imported: Box::new(imported), error }),
    }
}

/// Lets the writer work while a producer runs. An error of the writer wins, because the producer's
/// error is a consequence of it.
fn writing(writer: &Writer<'_>, produce: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    thread::scope(|scope| {
        let writing = scope.spawn(|| writer.run());
        let produced = std::panic::catch_unwind(std::panic::AssertUnwindSafe(produce));
        writer.close();
        let written = join(writing);
        let produced = produced.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match written {
            Err(error) => Err(Error::Target(error)),
            Ok(()) => produced,
        }
    })
}

/// An import from a store.
struct StoreImport<'a> {
    from: &'a Store,
    to: &'a Store,
    /// The target was empty at the start, so its CoValues need no look-up.
    to_is_new: bool,
    directory: Directory,
    writer: &'a Writer<'a>,
    findings: &'a Findings,
    progress: &'a dyn ProgressObserver,
    /// CoValues that the target has in full.
    unchanged: &'a AtomicU64,
}

impl StoreImport<'_> {
    fn run(&self) -> Result<(), Error> {
        let walked = walk(self.from, |id| {
            self.import(id).map_err(|error| error.in_co_value(id))?;
            self.progress.add(1);
            Ok(())
        })?;
        walked.broken_off.map_or(Ok(()), |damage| Err(Error::List(damage)))
    }

    fn import(&self, id: CoValueId) -> Result<(), Error> {
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
                let deletes = theirs.deleted && !ours.deleted;
                let counts = ours.counts();
                let kept = counts.iter().filter(|(session, _)| !(deletes && session.is_delete()));
                let have = kept.collect();
                (Checked::stored(id, ours, self.to, deletes), have, None)
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
            |_, extensions| outgoing.send(extensions).map_err(Error::from),
            |session, reason| self.findings.add(id, session, reason),
        )?;
        if theirs.deleted && !checked.is_deleted() {
            self.findings.add(id, None, Reason::NotDeleted);
        } else {
            outgoing.finish()?;
        }
        Ok(())
    }

    /// Loads a CoValue from a store. Damage becomes a finding.
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
    Found(StoredCoValue),
    Nothing,
    Damaged,
}

/// Whether the target lacks content of a CoValue.
fn is_behind(ours: &StoredCoValue, theirs: &StoredCoValue) -> bool {
    if ours.deleted != theirs.deleted {
        // A CoValue that is deleted in the target takes no more content.
        return theirs.deleted;
    }
    let counts = ours.counts();
    theirs.sessions.iter().any(|theirs| theirs.count > counts.get(&theirs.session))
}
