//! Export of a store to a portable file.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use downbeat_protocol::{CoValueId, Content, Header, SessionContent, SessionCounts};
use downbeat_storage::StorageError;
use serde::Serialize;

use crate::check::{Checked, Extension, Reason, check};
use crate::directory::Directory;
use crate::error::Error;
use crate::file::{Output, Totals, encode};
use crate::findings::{Findings, FindingsReport};
use crate::progress::{ProgressObserver, Unit};
use crate::store::Store;
use crate::walk::walk;

/// Bytes of lines that a thread collects before it writes them, so that threads do not queue for
/// the file.
const BUFFERED_BYTES: usize = 256 << 10;

/// The result of an export.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Exported {
    /// The content of the file.
    #[serde(flatten)]
    pub totals: Totals,
    /// How long the export took.
    pub seconds: f64,
    /// The content that was left out.
    #[serde(flatten)]
    pub report: FindingsReport,
}

/// Copies all CoValues of a store into a portable file, and completes the file.
///
/// Accounts come first, then groups, then the rest, so that a reader knows the authors and the
/// roles before it needs them.
pub fn export(
    from: &Store,
    output: Output,
    progress: &dyn ProgressObserver,
) -> Result<Exported, Error> {
    let started = Instant::now();
    // Each kind walks through all CoValues.
    let total = from.count()?.saturating_mul(Kind::ALL.len() as u64);
    progress.start(Unit::CoValues, Some(total));
    let export = Export {
        from,
        directory: Directory::new(vec![from.clone()]),
        output: Mutex::new(output),
        findings: Findings::default(),
        progress,
    };
    Kind::ALL.into_iter().try_for_each(|kind| export.run(kind))?;
    let Export { output, findings, .. } = export;
    let totals = output.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Exported { totals, seconds, report: findings.report() })
}

/// The order of CoValues in the file.
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
    progress: &'a dyn ProgressObserver,
}

impl Export<'_> {
    fn run(&self, kind: Kind) -> Result<(), Error> {
        let walked = walk(self.from, |id| {
            self.export(id, kind).map_err(|error| error.in_co_value(id))?;
            self.progress.add(1);
            Ok(())
        })?;
        walked.broken_off.map_or(Ok(()), |damage| Err(Error::List(damage)))
    }

    fn export(&self, id: CoValueId, kind: Kind) -> Result<(), Error> {
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
    /// The locked file, from the first write of this CoValue on.
    output: Option<MutexGuard<'a, Output>>,
}

impl Lines<'_> {
    fn add(&mut self, extensions: Vec<Extension>) -> Result<(), Error> {
        let mut sessions: Vec<SessionContent> = Vec::new();
        for Extension { content, .. } in extensions {
            // A message holds at most one run of a session.
            if sessions.iter().any(|run| run.session == content.session) {
                self.message(std::mem::take(&mut sessions));
            }
            sessions.push(content);
        }
        if !sessions.is_empty() {
            self.message(sessions);
        }
        if self.bytes.len() > BUFFERED_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
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

    fn write(&mut self) -> Result<(), Error> {
        let export = self.export;
        let output = self
            .output
            .get_or_insert_with(|| export.output.lock().unwrap_or_else(PoisonError::into_inner));
        output.write(&self.bytes, std::mem::take(&mut self.totals))?;
        self.bytes.clear();
        Ok(())
    }
}
