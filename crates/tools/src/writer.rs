//! Writes to a store in large batches, on one thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use downbeat_protocol::{CoValueId, SessionContent, SessionId};
use downbeat_storage::{BatchLimits, Batcher, Outcome, SessionOutcome, StorageError, Write};

use crate::check::Reason;
use crate::error::Error;
use crate::findings::Findings;
use crate::store::Store;

/// Bytes that may wait in the queue; producers of more must wait. Enough that a batch collects
/// while another one is written.
const MAX_WAITING_BYTES: u64 = 32 << 20;

/// Bytes and writes per batch. Many writes share the cost of a flush, and the store's memory for a
/// batch stays bounded.
const BATCH_LIMITS: BatchLimits = BatchLimits { jobs: 4_096, bytes: 8 << 20 };

/// Bytes of a write besides its transactions: ids, header, signatures.
const WRITE_OVERHEAD: u64 = 600;

/// Collects writes from several threads, and writes them to a store.
pub(crate) struct Writer<'a> {
    store: &'a Store,
    findings: &'a Findings,
    queue: Mutex<Queue>,
    /// Signals that a write was queued or a batch is stored.
    changed: Condvar,
    counts: Counts,
}

/// Counts of written content.
#[derive(Default)]
pub(crate) struct Counts {
    /// New CoValues.
    pub co_values: AtomicU64,
    /// Transactions.
    pub transactions: AtomicU64,
    /// Bytes of their JSON.
    pub bytes: AtomicU64,
}

struct Queue {
    waiting: Batcher<Write>,
    /// Bytes that wait in the queue or are in the present batch.
    bytes: u64,
    closed: bool,
    stopped: bool,
}

/// The writer has stopped because of an error, which [`Writer::run`] returns.
#[derive(Debug, thiserror::Error)]
#[error("the target could not be written to")]
pub(crate) struct Stopped;

impl<'a> Writer<'a> {
    /// A writer to a store. Content that the store does not accept is added to the findings.
    pub(crate) fn new(store: &'a Store, findings: &'a Findings) -> Self {
        let waiting = Batcher::new(BATCH_LIMITS);
        let queue = Mutex::new(Queue { waiting, bytes: 0, closed: false, stopped: false });
        Self { store, findings, queue, changed: Condvar::new(), counts: Counts::default() }
    }

    /// Writes until it is closed. After an error all further writes are refused.
    pub(crate) fn run(&self) -> Result<(), StorageError> {
        // Wakes the waiting threads, also after a panic.
        let _end = End(self);
        while let Some((batch, bytes)) = self.next_batch() {
            self.write(batch)?;
            self.lock().bytes -= bytes;
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Queues a write, once there is room for it.
    pub(crate) fn push(&self, write: Write) -> Result<(), Stopped> {
        let bytes = size(&write);
        let mut queue = self.lock();
        while queue.bytes > MAX_WAITING_BYTES && !queue.stopped {
            queue = self.wait(queue);
        }
        if queue.stopped {
            return Err(Stopped);
        }
        queue.bytes += bytes;
        queue.waiting.push(write, bytes);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until all queued writes are stored.
    pub(crate) fn wait_idle(&self) -> Result<(), Stopped> {
        let mut queue = self.lock();
        while queue.bytes > 0 && !queue.stopped {
            queue = self.wait(queue);
        }
        if queue.stopped { Err(Stopped) } else { Ok(()) }
    }

    /// Lets [`Self::run`] return once all queued writes are stored.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The counts so far.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    fn next_batch(&self) -> Option<(Vec<Write>, u64)> {
        let mut queue = self.lock();
        while queue.waiting.is_empty() {
            if queue.closed {
                return None;
            }
            queue = self.wait(queue);
        }
        let waited = queue.waiting.bytes();
        let batch = queue.waiting.next_batch();
        Some((batch, waited - queue.waiting.bytes()))
    }

    fn write(&self, batch: Vec<Write>) -> Result<(), StorageError> {
        let writes: Vec<_> = batch.iter().map(Written::of).collect();
        let outcomes = self.store.append(batch)?;
        for (written, outcome) in writes.into_iter().zip(outcomes) {
            self.note(&written, outcome);
        }
        Ok(())
    }

    fn note(&self, written: &Written, outcome: Outcome) {
        let outcomes = match outcome {
            Outcome::Applied(outcomes) => outcomes,
            Outcome::NoHeader => return self.findings.add(written.id, None, Reason::NoHeader),
            Outcome::Damaged(damage) => {
                return self.findings.add(written.id, None, Reason::Damaged(damage));
            }
        };
        self.counts.co_values.fetch_add(u64::from(written.creates), Ordering::Relaxed);
        for (run, outcome) in written.runs.iter().zip(outcomes) {
            match outcome {
                SessionOutcome::Applied => {
                    self.counts.transactions.fetch_add(run.end - run.after, Ordering::Relaxed);
                    self.counts.bytes.fetch_add(run.bytes, Ordering::Relaxed);
                }
                // The run was queued twice, or an earlier write deleted the CoValue.
                SessionOutcome::Conflict { stored } if stored >= run.end => {}
                SessionOutcome::Deleted => {}
                SessionOutcome::Conflict { stored } => {
                    let reason = Reason::Conflict { stored };
                    self.findings.add(written.id, Some(&run.session), reason);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'b>(&self, queue: MutexGuard<'b, Queue>) -> MutexGuard<'b, Queue> {
        self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Stopped> for Error {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

struct End<'a, 'b>(&'a Writer<'b>);

impl Drop for End<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}

/// The part of a write that is needed to judge its outcome.
struct Written {
    id: CoValueId,
    creates: bool,
    runs: Vec<WrittenRun>,
}

struct WrittenRun {
    session: SessionId,
    after: u64,
    end: u64,
    bytes: u64,
}

impl Written {
    fn of(write: &Write) -> Self {
        let (creates, sessions) = match write {
            Write::Append { header, sessions, .. } => (header.is_some(), sessions.as_slice()),
            Write::Tombstone { session, .. } => (false, std::slice::from_ref(session)),
        };
        let run = |content: &SessionContent| WrittenRun {
            session: content.session.clone(),
            after: content.after,
            end: content.end(),
            bytes: content.json_len(),
        };
        Self { id: write.id(), creates, runs: sessions.iter().map(run).collect() }
    }
}

fn size(write: &Write) -> u64 {
    /// Bytes of a transaction besides its JSON.
    const TRANSACTION_OVERHEAD: u64 = 64;
    let content = |content: &SessionContent| {
        content.json_len() + content.transactions.len() as u64 * TRANSACTION_OVERHEAD
    };
    WRITE_OVERHEAD
        + match write {
            Write::Append { sessions, .. } => sessions.iter().map(content).sum::<u64>(),
            Write::Tombstone { session, .. } => content(session),
        }
}
