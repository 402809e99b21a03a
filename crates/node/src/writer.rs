//! The storage writer: everything that waits when storage is free goes in one batch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use downbeat_driver::{ContentStore, WriteBatch, WriteJob, Written};
use downbeat_protocol::CoValueId;
use downbeat_storage::StorageError;
use downbeat_sync::{Event, PeerId, StoreJob, UpstreamName};
use tokio::sync::{Notify, mpsc};
use tracing::{Instrument, debug_span};

use crate::failure::{RETRY, writing_failed, writing_works};
use crate::lock::lock;
use crate::source::Source;
use crate::stats::{Counters, add};
use crate::write_rounds::WriteRounds;

/// A job, and for a store since when its content is on its way to be acknowledged.
pub(crate) type Job = WriteJob<Option<Instant>>;

/// Takes jobs for the writer task. Clones share the queue.
#[derive(Clone)]
pub(crate) struct WriteQueue {
    shared: Arc<Shared>,
    deleted: Arc<Notify>,
}

struct Shared {
    /// Bounded by what peers may have in the machine's care at a time: their credit is given back
    /// when the content is durable.
    jobs: Mutex<WriteRounds>,
    /// Jobs of the batch that is being written.
    in_batch: AtomicUsize,
    added: Notify,
}

impl WriteQueue {
    pub(crate) fn new() -> Self {
        let (jobs, added) = (Mutex::default(), Notify::new());
        let shared = Arc::new(Shared { jobs, in_batch: AtomicUsize::new(0), added });
        Self { shared, deleted: Arc::default() }
    }

    /// Adds a store of a peer's content. See [`WriteRounds`] for the order.
    pub(crate) fn store(
        &self,
        source: Source,
        peer: PeerId,
        job: StoreJob,
        began: Option<Instant>,
    ) {
        self.jobs().store(source, peer, job, began);
        self.shared.added.notify_one();
    }

    /// Adds a note whether an upstream has acknowledged a CoValue.
    pub(crate) fn track(&self, id: CoValueId, upstream: UpstreamName, synced: bool) {
        self.jobs().track(WriteJob::track(id, upstream, synced));
        self.shared.added.notify_one();
    }

    /// Notified of stored deletions, for the task that erases the content of deleted CoValues.
    pub(crate) fn deleted(&self) -> &Arc<Notify> {
        &self.deleted
    }

    /// Jobs that wait.
    pub(crate) fn len(&self) -> usize {
        self.jobs().len()
    }

    /// Jobs that wait, and those of the batch that is being written.
    pub(crate) fn waiting(&self) -> usize {
        self.len() + self.shared.in_batch.load(Ordering::Relaxed)
    }

    async fn next_batch(&self) -> WriteBatch<Option<Instant>> {
        loop {
            {
                let mut jobs = self.jobs();
                let batch = jobs.next_batch();
                self.shared.in_batch.store(batch.len(), Ordering::Relaxed);
                if !batch.is_empty() {
                    return WriteBatch::new(batch);
                }
            }
            self.shared.added.notified().await;
        }
    }

    fn jobs(&self) -> MutexGuard<'_, WriteRounds> {
        lock(&self.shared.jobs)
    }
}

/// Writes what comes into the queue, until the engine has ended.
pub(crate) async fn run(
    queue: WriteQueue,
    content: ContentStore,
    events: mpsc::Sender<Event>,
    counters: Arc<Counters>,
) {
    loop {
        let batch = tokio::select! {
            batch = queue.next_batch() => batch,
            () = events.closed() => return,
        };
        let storage = &**content.storage();
        let tracked = persist(&queue, &events, &counters, || batch.track(storage));
        if tracked.await.is_none() {
            return;
        }
        let stores = batch.stores().len();
        if stores == 0 {
            continue;
        }
        let started = Instant::now();
        let appending = persist(&queue, &events, &counters, || batch.append(&content));
        let outcomes = appending.instrument(debug_span!("append", stores)).await;
        let Some(outcomes) = outcomes else { return };
        counters.stored(stores, batch.bytes(), started.elapsed());
        for Written { job, stored, context: began } in batch.finish(&content, outcomes) {
            if let Some(began) = began {
                counters.acknowledgement.time(began.elapsed());
            }
            if job.delete {
                queue.deleted.notify_one();
            }
            if events.send(Event::Stored(stored)).await.is_err() {
                return;
            }
        }
    }
}

/// Writes, again and again until storage takes it. Meanwhile nothing is acknowledged, and peers
/// are held back by their credit. `None` if the engine has ended.
async fn persist<T, F>(
    queue: &WriteQueue,
    events: &mpsc::Sender<Event>,
    counters: &Counters,
    mut write: impl FnMut() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, StorageError>>,
{
    let mut failed = false;
    loop {
        match write().await {
            Ok(done) => {
                if failed {
                    counters.writing_fails.store(false, Ordering::Relaxed);
                    writing_works(counters);
                }
                return Some(done);
            }
            Err(error) => {
                failed = true;
                add(&counters.storage.write_retries, 1);
                counters.writing_fails.store(true, Ordering::Relaxed);
                writing_failed(&error, counters, queue.waiting());
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = events.closed() => return None,
        }
    }
}
