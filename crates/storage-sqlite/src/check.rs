//! A check of the indexes of `sessions`, in the background after the file was opened.
//!
//! SQLite keeps no checksums. An index with a changed byte may not give all sessions of a CoValue,
//! and a reader does not notice. So a thread compares the table with the indexes once, in both
//! directions, a small part at a time. A CoValue for which they differ is not served from then on.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use downbeat_protocol::CoValueId;
use downbeat_storage::StorageError;
use rusqlite::{Connection, OptionalExtension};
use tokio::sync::watch;
use tracing::error;

use crate::connection::{Reader, Source};
use crate::error::{FileError, in_co_value};
use crate::index::text;

/// Rows of a table that are compared in one snapshot. Takes about a millisecond.
const PART: usize = 256;

/// The pause after a part, as a multiple of its duration. Leaves four fifths of a core and of the
/// disk to other work.
const PAUSE: u32 = 4;

/// The shortest pause.
const MIN_PAUSE: Duration = Duration::from_millis(2);

/// The kind of damage that the check finds.
const REASON: &str = "an index of the file does not have the sessions that the table has";

/// The CoValues that the check has found damaged.
#[derive(Debug, Default)]
pub(crate) struct Damaged {
    /// Whether there are any. Saves taking the lock while there are none.
    any: AtomicBool,
    ids: RwLock<HashSet<CoValueId>>,
}

impl Damaged {
    /// Fails if this CoValue is one of them.
    pub(crate) fn refuse(&self, id: CoValueId) -> Result<(), FileError> {
        if self.any.load(Ordering::Acquire)
            && self.ids.read().unwrap_or_else(PoisonError::into_inner).contains(&id)
        {
            return Err(in_co_value(id, &REASON));
        }
        Ok(())
    }

    /// All of them, sorted.
    pub(crate) fn ids(&self) -> Vec<CoValueId> {
        let ids = self.ids.read().unwrap_or_else(PoisonError::into_inner);
        let mut ids: Vec<_> = ids.iter().copied().collect();
        ids.sort();
        ids
    }

    fn mark(&self, id: CoValueId) {
        if self.ids.write().unwrap_or_else(PoisonError::into_inner).insert(id) {
            error!(%id, "{REASON}; the CoValue is not served");
        }
        self.any.store(true, Ordering::Release);
    }
}

/// The checking thread. Dropping this ends it after its current part.
#[derive(Debug)]
pub(crate) struct Check {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Check {
    /// Starts the thread. The receiver becomes true when everything has been compared, and is
    /// closed when the check ends.
    pub(crate) fn start(
        source: Arc<Source>,
        damaged: Arc<Damaged>,
    ) -> Result<(Self, watch::Receiver<bool>), StorageError> {
        let (stop, stopped) = sync_channel(1);
        let (done, is_done) = watch::channel(false);
        let thread =
            thread::Builder::new().name("downbeat-sqlite-check".to_owned()).spawn(move || {
                let mut reader = Reader::new(source);
                let passes = [of_sessions, of_co_values];
                if passes.map(|part| pass(&mut reader, &damaged, &stopped, part)) == [true; 2] {
                    done.send_replace(true);
                }
            });
        let thread = thread
            .map_err(|error| StorageError::io("cannot start the check of the indexes", error))?;
        Ok((Self { stop: Some(stop), thread: Some(thread) }, is_done))
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the check of the file's indexes panicked");
        }
    }
}

/// Compares a part, from after a row on. Returns its last row, or `None` if there are no more.
type Part = fn(&Connection, &Damaged, i64) -> Result<Option<i64>, FileError>;

/// Goes through a table. Returns whether it reached the end.
fn pass(reader: &mut Reader, damaged: &Damaged, stopped: &Receiver<()>, part: Part) -> bool {
    let mut after = i64::MIN;
    loop {
        let start = Instant::now();
        let last = reader.read(|connection| part(connection, damaged, after));
        reader.end_snapshot();
        match last {
            // In a damaged table the rows may be out of order.
            Ok(Some(last)) if last > after => after = last,
            Ok(_) => return true,
            Err(error) => {
                error!(%error, "cannot compare all sessions with their indexes");
                return false;
            }
        }
        if pause(stopped, MIN_PAUSE.max(start.elapsed() * PAUSE)).is_break() {
            return false;
        }
    }
}

fn pause(stopped: &Receiver<()>, pause: Duration) -> ControlFlow<()> {
    match stopped.recv_timeout(pause) {
        Err(RecvTimeoutError::Timeout) => ControlFlow::Continue(()),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => ControlFlow::Break(()),
    }
}

/// Looks up sessions of the table as reading and writing do.
fn of_sessions(
    connection: &Connection,
    damaged: &Damaged,
    after: i64,
) -> Result<Option<i64>, FileError> {
    let mut query = connection.prepare_cached(
        "SELECT rowID, coValue, sessionID FROM sessions NOT INDEXED
        WHERE rowID > ?1 ORDER BY rowID LIMIT ?2",
    )?;
    let mut rows = query.query((after, PART))?;
    let mut last = None;
    let mut by_co_value: HashMap<i64, Vec<i64>> = HashMap::new();
    while let Some(row) = rows.next()? {
        let session: i64 = row.get(0)?;
        last = last.max(Some(session));
        let Ok(co_value) = row.get::<_, i64>(1) else {
            error!(session, "the session of this row belongs to no CoValue");
            continue;
        };
        // A reader finds invalid text by itself.
        let found = match text(row, 2) {
            Ok(name) => by_name(connection, co_value, name),
            Err(_) => Ok(Some(session)),
        };
        if !matches!(found, Ok(Some(found)) if found == session) {
            mark(connection, damaged, co_value)?;
        }
        by_co_value.entry(co_value).or_default().push(session);
    }
    for (co_value, sessions) in by_co_value {
        // An index that cannot be read counts as empty.
        let found = by_index(connection, co_value).unwrap_or_default();
        if !sessions.iter().all(|session| found.contains(session)) {
            mark(connection, damaged, co_value)?;
        }
    }
    Ok(last)
}

/// Looks up the index entries of CoValues in the table. A damaged entry may name the session of
/// another CoValue.
fn of_co_values(
    connection: &Connection,
    damaged: &Damaged,
    after: i64,
) -> Result<Option<i64>, FileError> {
    let mut query = connection.prepare_cached(
        "SELECT rowID FROM coValues NOT INDEXED WHERE rowID > ?1 ORDER BY rowID LIMIT ?2",
    )?;
    let mut rows = query.query((after, PART))?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let co_value: i64 = row.get(0)?;
        last = last.max(Some(co_value));
        if !matches!(is_of_table(connection, co_value), Ok(true)) {
            mark(connection, damaged, co_value)?;
        }
    }
    Ok(last)
}

fn by_name(connection: &Connection, co_value: i64, name: &str) -> Result<Option<i64>, FileError> {
    let mut query = connection
        .prepare_cached("SELECT rowID FROM sessions WHERE coValue = ?1 AND sessionID = ?2")?;
    Ok(query.query_row((co_value, name), |row| row.get(0)).optional()?)
}

fn by_index(connection: &Connection, co_value: i64) -> Result<HashSet<i64>, FileError> {
    let mut query = connection.prepare_cached("SELECT rowID FROM sessions WHERE coValue = ?1")?;
    let rows = query.query_map([co_value], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether the table has all sessions that the index has for a CoValue.
fn is_of_table(connection: &Connection, co_value: i64) -> Result<bool, FileError> {
    let mut query = connection.prepare_cached(
        "SELECT 1 FROM sessions i LEFT JOIN sessions s NOT INDEXED ON s.rowID = i.rowID
        WHERE i.coValue = ?1 AND s.coValue IS NOT ?1",
    )?;
    Ok(!query.exists([co_value])?)
}

/// Marks the CoValue of a row.
fn mark(connection: &Connection, damaged: &Damaged, co_value: i64) -> Result<(), FileError> {
    let mut query =
        connection.prepare_cached("SELECT id FROM coValues NOT INDEXED WHERE rowID = ?1")?;
    let id: Option<String> = query.query_row([co_value], |row| row.get(0)).optional()?;
    if let Some(Ok(id)) = id.as_deref().map(CoValueId::parse) {
        damaged.mark(id);
    } else {
        error!(co_value, "{REASON}, and the CoValue of this row has no id");
    }
    Ok(())
}
