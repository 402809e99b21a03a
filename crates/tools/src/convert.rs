//! Conversion: copies a store, with everything in it, into a store of any kind.
//!
//! An import adds the valid content of a source to a target that is in use. A conversion makes a
//! target that can replace the source: it also copies the notes about upstreams, and keeps the
//! extensions of the logs. It trusts the checksums of the source, and checks signatures only on
//! request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use downbeat_protocol::{CoValueId, Header, SessionContent, SessionCounts, SessionId};
use downbeat_storage::{
    StorageError, StoredCoValue, StoredSession, Unsynced, UnsyncedUpdate, Write,
};

use crate::check::{Checked, Reason, check};
use crate::directory::Directory;
use crate::error::Error;
use crate::findings::{Finding, Findings};
use crate::import::{Imported, Interrupted, run};
use crate::progress::{ProgressObserver, Unit};
use crate::store::{Step, Store};
use crate::walk::walk;
use crate::writer::Writer;

/// Notes about upstreams that are copied at a time, about 200 bytes each.
const NOTES: usize = 10_000;

/// Makes `to` a copy of another store: the same CoValues, deletions, logs with the same extensions,
/// and notes of what upstreams have not acknowledged. Content that a tombstone hides is not copied.
///
/// `to` is empty, or has the result of a conversion of the same store that was interrupted. Nothing
/// else may use either store meanwhile. Content that is damaged in the source is reported and left
/// out. With `verify`, so is content with an invalid id, signature or deletion.
///
/// # Errors
///
/// [`Error::Mismatch`] if `to` has content that is not in the source, and the errors of the stores.
/// Until the conversion has succeeded, the target is incomplete.
pub fn convert(
    from: &Store,
    to: &Store,
    verify: bool,
    progress: &dyn ProgressObserver,
) -> Result<Imported, Interrupted> {
    let unchanged = AtomicU64::new(0);
    run(to, &unchanged, |writer, findings| {
        progress.start(Unit::CoValues, Some(from.count()?));
        let conversion = Conversion {
            from,
            to,
            to_is_new: to.count()? == 0,
            directory: verify.then(|| Directory::new(vec![from.clone()])),
            writer,
            findings,
            progress,
            unchanged: &unchanged,
            expected: Expected::default(),
        };
        conversion.run()
    })
}

/// What is copied of a CoValue.
struct Plan {
    id: CoValueId,
    theirs: StoredCoValue,
    /// Whether the target gets a tombstone.
    deleted: bool,
    /// The number of transactions of each session.
    limits: SessionCounts,
}

struct Conversion<'a> {
    from: &'a Store,
    to: &'a Store,
    /// The target was empty at the start, so its CoValues need no look-up.
    to_is_new: bool,
    /// For checking signatures; `None` if they are trusted.
    directory: Option<Directory>,
    writer: &'a Writer<'a>,
    findings: &'a Findings,
    progress: &'a dyn ProgressObserver,
    /// CoValues that the target has in full.
    unchanged: &'a AtomicU64,
    expected: Expected,
}

/// The content that the target must have in the end.
#[derive(Default)]
struct Expected {
    co_values: AtomicU64,
    sessions: AtomicU64,
    transactions: AtomicU64,
    /// Something was left out, so the target may have less.
    less: AtomicBool,
}

impl Conversion<'_> {
    fn run(&self) -> Result<(), Error> {
        self.copy_notes()?;
        let walked = walk(self.from, |id| {
            self.convert(id).map_err(|error| error.in_co_value(id))?;
            self.progress.add(1);
            Ok(())
        })?;
        if let Some(damage) = walked.broken_off {
            return Err(Error::List(damage));
        }
        let (listed, counted) = (walked.listed, self.from.count()?);
        if listed != counted {
            self.report_store(Reason::WrongCount { listed, counted });
        }
        self.writer.wait_idle()?;
        self.to.erase_hidden().map_err(Error::Target)?;
        self.compare_totals()
    }

    fn convert(&self, id: CoValueId) -> Result<(), Error> {
        let theirs = match self.from.load(id) {
            Ok(Some(stored)) => stored,
            Ok(None) => {
                self.report(id, None, Reason::NoHeader);
                return Ok(());
            }
            Err(StorageError::Corrupt(damage)) => {
                self.report(id, None, Reason::Damaged(damage));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let Some(plan) = self.plan(id, theirs)? else { return Ok(()) };
        let ours = if self.to_is_new { None } else { self.to.load(id).map_err(Error::Target)? };
        let have = match &ours {
            None => SessionCounts::new(),
            Some(ours) => match self.known(ours, &plan)? {
                Some(have) => have,
                None => return Ok(()),
            },
        };
        self.expected.add(&plan.limits);
        let is_complete = ours.as_ref().is_some_and(|ours| ours.deleted == plan.deleted)
            && plan.limits.iter().all(|(session, limit)| have.get(session) >= *limit);
        if is_complete {
            self.unchanged.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let is_new = ours.is_none();
        self.copy(plan, &have, is_new)
    }

    /// What is copied of a CoValue. `None` if it is left out.
    fn plan(&self, id: CoValueId, theirs: StoredCoValue) -> Result<Option<Plan>, Error> {
        let mut limits = theirs.counts();
        let mut deleted = theirs.deleted;
        let mut has_deletion = theirs.sessions.iter().any(|stored| stored.session.is_delete());
        if let Some(directory) = &self.directory {
            let mut checked = match Checked::new(id, theirs.header.clone()) {
                Ok(checked) => checked,
                Err(reason) => {
                    self.report(id, None, reason);
                    return Ok(None);
                }
            };
            let refuse = |session: Option<&SessionId>, reason| self.report(id, session, reason);
            let sink = |_: &Checked, _| Ok::<_, Error>(());
            check(self.from, SessionCounts::new(), &mut checked, directory, sink, refuse)?;
            has_deletion = checked.is_deleted();
            // As an import does, which applies every valid deletion.
            deleted |= has_deletion;
            let counts = checked.counts();
            let kept = counts.iter().filter(|(session, _)| !deleted || session.is_delete());
            limits = kept.collect();
        }
        if deleted && !has_deletion {
            self.report(id, None, Reason::NotDeleted);
            return Ok(None);
        }
        Ok(Some(Plan { id, theirs, deleted, limits }))
    }

    /// The transactions that the target has of a CoValue, from an interrupted conversion, after a
    /// check that they are those of the source. `None` if the source is too damaged to tell.
    fn known(&self, ours: &StoredCoValue, plan: &Plan) -> Result<Option<SessionCounts>, Error> {
        let Plan { id, theirs, deleted, limits } = plan;
        if ours.header != theirs.header || (ours.deleted && !deleted) {
            return Err(Error::Mismatch("its header or deletion differs".to_owned()));
        }
        // The tombstone hides all other sessions.
        if *deleted && !ours.deleted {
            return Ok(Some(SessionCounts::new()));
        }
        let last: BTreeMap<_, _> =
            theirs.sessions.iter().map(|theirs| (&theirs.session, theirs)).collect();
        for ours in &ours.sessions {
            let (session, count) = (&ours.session, ours.count);
            let signature = match last.get(session) {
                _ if limits.get(session) < count => None,
                Some(theirs) if theirs.count == count => Some(theirs.last_signature),
                _ => match self.from.signature_at(*id, theirs, (session, count)) {
                    Err(StorageError::Corrupt(damage)) => {
                        self.report(*id, Some(session), Reason::Damaged(damage));
                        return Ok(None);
                    }
                    signature => signature?,
                },
            };
            if signature != Some(ours.last_signature) {
                let reason = format!("{session}: the first {count} transactions differ");
                return Err(Error::Mismatch(reason));
            }
        }
        Ok(Some(ours.counts()))
    }

    /// Copies the extensions beyond `have`.
    fn copy(&self, plan: Plan, have: &SessionCounts, is_new: bool) -> Result<(), Error> {
        let Plan { id, theirs, deleted, limits } = plan;
        let mut reading = self.from.read_extensions(id, have.clone());
        for StoredSession { session, .. } in &theirs.sessions {
            if have.get(session) >= limits.get(session) {
                reading.skip(session);
            }
        }
        let mut header = is_new.then_some(theirs.header);
        let mut is_sent = false;
        while let Some(step) = reading.next()? {
            let extensions = match step {
                Step::Runs(extensions) => extensions,
                Step::Damage(damage) => {
                    let session = damage.session().cloned();
                    self.report(id, session.as_ref(), Reason::Damaged(damage));
                    continue;
                }
            };
            let mut valid = Vec::with_capacity(extensions.len());
            for extension in extensions {
                let (limit, end) = (limits.get(&extension.session), extension.end());
                if end >= limit {
                    reading.skip(&extension.session);
                }
                if end <= limit {
                    valid.push(extension);
                }
            }
            is_sent |= !valid.is_empty();
            self.push(id, &mut header, deleted, valid)?;
        }
        if deleted && !is_sent {
            // Without its tombstone it would come back to life.
            self.report(id, None, Reason::NotDeleted);
        } else if let Some(header) = header {
            let sessions = Vec::new();
            self.writer.push(Write::Append { id, header: Some(header), sessions })?;
        }
        Ok(())
    }

    /// Passes extensions to the writer, with the header if they are the first.
    fn push(
        &self,
        id: CoValueId,
        header: &mut Option<Header>,
        deleted: bool,
        extensions: Vec<SessionContent>,
    ) -> Result<(), Error> {
        if extensions.is_empty() {
            return Ok(());
        }
        let (sessions, tombstones) =
            if deleted { (Vec::new(), extensions) } else { (extensions, Vec::new()) };
        self.writer.push(Write::Append { id, header: header.take(), sessions })?;
        for session in tombstones {
            self.writer.push(Write::Tombstone { id, session })?;
        }
        Ok(())
    }

    /// Copies the notes of what upstreams have not acknowledged.
    fn copy_notes(&self) -> Result<(), Error> {
        // The source may have been in use since an interrupted conversion.
        loop {
            let notes = self.to.unsynced(None, NOTES).map_err(Error::Target)?;
            if notes.is_empty() {
                break;
            }
            self.note(notes, true)?;
        }
        let (mut after, mut limit) = (None, NOTES);
        loop {
            match self.from.unsynced(after.clone(), limit) {
                Ok(notes) => {
                    let Some(last) = notes.last() else { return Ok(()) };
                    after = Some(last.clone());
                    self.note(notes, false)?;
                }
                // Notes before the damage can be listed one by one.
                Err(StorageError::Corrupt(_)) if limit > 1 => limit = 1,
                Err(StorageError::Corrupt(damage)) => {
                    self.report_store(Reason::Notes(damage));
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn note(&self, notes: Vec<Unsynced>, synced: bool) -> Result<(), Error> {
        let updates = notes.into_iter().map(|entry| UnsyncedUpdate { entry, synced }).collect();
        self.to.track_unsynced(updates).map_err(Error::Target)
    }

    /// Reports a problem of the source as a whole.
    fn report_store(&self, reason: Reason) {
        self.findings.push(Finding { line: None, co_value: None, session: None, reason });
    }

    fn report(&self, id: CoValueId, session: Option<&SessionId>, reason: Reason) {
        self.expected.less.store(true, Ordering::Relaxed);
        self.findings.add(id, session, reason);
    }

    /// Compares the totals of the target with the copied content.
    fn compare_totals(&self) -> Result<(), Error> {
        let there = self.to.stats().map_err(Error::Target)?;
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Expected { co_values, sessions, transactions, less } = &self.expected;
        let expected = [co_values, sessions, transactions].map(number);
        let found = [there.co_values, there.sessions, there.transactions];
        if found == expected || less.load(Ordering::Relaxed) {
            return Ok(());
        }
        let show = |[co_values, sessions, transactions]: [u64; 3]| {
            format!("{co_values} CoValues with {sessions} sessions and {transactions} transactions")
        };
        Err(Error::Mismatch(format!("it has {} instead of {}", show(found), show(expected))))
    }
}

impl Expected {
    fn add(&self, limits: &SessionCounts) {
        self.co_values.fetch_add(1, Ordering::Relaxed);
        for (_, count) in limits.iter().filter(|(_, count)| **count > 0) {
            self.sessions.fetch_add(1, Ordering::Relaxed);
            self.transactions.fetch_add(*count, Ordering::Relaxed);
        }
    }
}
