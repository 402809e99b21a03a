//! A check of the indexes of `sessions`, in the background after the file was opened.
//!
//! SQLite keeps no checksums. An index with a changed byte may not give all sessions of a CoValue,
//! and a reader does not notice. So a thread compares the table with the indexes once, in both
//! directions, a small part at a time. A CoValue for which they differ is not served from then on.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use downbeat_protocol::CoValueId;
use downbeat_storage::StorageError;
use rusqlite::Connection;
use tokio::sync::watch;
use tracing::error;

use crate::connection::{Reader, Source};
use crate::error::{FileError, in_co_value};
use crate::read::text;
use crate::schema::SqliteSchema;

/// Rows of a table that are compared in one snapshot. Takes about a millisecond.
pub(crate) const PART: usize = 256;

/// The pause after a part, as a multiple of its duration. Leaves four fifths of a core and of the
/// disk to other work.
const PAUSE: u32 = 4;

/// The shortest pause.
const MIN_PAUSE: Duration = Duration::from_millis(2);

/// The kind of damage that the check finds.
const REASON: &str = "an index of the file does not have what its table has";

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
        schema: SqliteSchema,
        damaged: Arc<Damaged>,
    ) -> Result<(Self, watch::Receiver<bool>), StorageError> {
        let (stop, stopped) = sync_channel(1);
        let (done, is_done) = watch::channel(false);
        let thread =
            thread::Builder::new().name("downbeat-sqlite-check".to_owned()).spawn(move || {
                let mut reader = Reader::new(source);
                let mut complete = true;
                for part in schema.passes() {
                    complete &= pass(&mut reader, &damaged, &stopped, *part);
                }
                if complete {
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
pub(crate) type Part = fn(&Connection, &Damaged, i64) -> Result<Option<i64>, FileError>;

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

/// Marks the CoValue of a row.
pub(crate) fn mark(
    connection: &Connection,
    damaged: &Damaged,
    co_value: i64,
) -> Result<(), FileError> {
    let mut query =
        connection.prepare_cached("SELECT id FROM coValues NOT INDEXED WHERE rowID = ?1")?;
    let mut rows = query.query([co_value])?;
    let row = rows.next()?;
    if let Some(id) = row.and_then(|row| CoValueId::parse(text(row, 0).ok()?).ok()) {
        damaged.mark(id);
    } else {
        error!(co_value, "{REASON}, and the CoValue of this row has no id");
    }
    Ok(())
}
