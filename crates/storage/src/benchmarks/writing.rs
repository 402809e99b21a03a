//! Measurements of writing.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use downbeat_protocol::SessionContent;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use super::{Backend, extension, report};
use crate::batch::{BatchLimits, Batcher};
use crate::conformance::{Author, CoValueFixture};
use crate::durability::Durability;
use crate::storage::Storage;
use crate::types::{Outcome, Write};

/// CoValues that are written in turn.
const CO_VALUES: u64 = 1_000;

/// Bytes of the changes of a transaction whose JSON has about 1 KB.
const CHANGES_LEN: usize = 950;

/// A stream of writes: one to each CoValue, and then from the first CoValue again.
struct Writes {
    co_values: Vec<CoValueFixture>,
    content: SessionContent,
}

impl Writes {
    fn new(first: u64, count: u64) -> Self {
        let mut author = Author::new(first);
        let transaction = author.write(1, CHANGES_LEN).transactions.remove(0);
        let content = extension(&author, 0, &transaction);
        Self { co_values: (first..first + count).map(CoValueFixture::new).collect(), content }
    }

    fn get(&self, index: u64) -> Write {
        let count = self.co_values.len() as u64;
        let co_value = &self.co_values[usize::try_from(index % count).expect("counts are small")];
        let after = index / count;
        let content = SessionContent { after, ..self.content.clone() };
        if after == 0 { co_value.create(vec![content]) } else { co_value.extend(vec![content]) }
    }
}

/// Appends of one write each, by `tasks` tasks. A store does not group them, so each is flushed.
pub(super) async fn append_one_by_one<P: AsRef<Path>>(
    backend: &Backend<'_, P>,
    durability: Durability,
    tasks: u64,
    total: u64,
) {
    let (_directory, store) = backend.create(durability);
    let start = Instant::now();
    let mut writing = JoinSet::new();
    for task in 0..tasks {
        let store = Arc::clone(&store);
        writing.spawn(async move {
            let share = (CO_VALUES / tasks).max(1);
            let writes = Writes::new(task * share, share);
            for index in 0..total / tasks {
                let outcomes = store.append(vec![writes.get(index)]).await.unwrap();
                assert!(outcomes[0].is_complete());
            }
        });
    }
    writing.join_all().await;
    let how = if durability == Durability::Flushed { "flushed" } else { "relaxed" };
    report(&format!("append 1 KB, {tasks} at a time, {how}"), total, start.elapsed());
    store.close().await.unwrap();
}

/// A write, and where to report that it is durable.
type Job = (Write, oneshot::Sender<()>);

/// Writes of many tasks, grouped by one batcher in front of the store. This is how a node writes.
pub(super) async fn append_through_a_batcher<P: AsRef<Path>>(
    backend: &Backend<'_, P>,
    tasks: u64,
    total: u64,
) {
    let (_directory, store) = backend.create(Durability::Flushed);
    let batcher = Mutex::new(Batcher::new(BatchLimits { jobs: 4_096, bytes: 16 << 20 }));
    let queue = Arc::new((batcher, Notify::new()));
    let batching = tokio::spawn(write_batches(Arc::clone(&queue), Arc::clone(&store)));
    let start = Instant::now();
    let mut writing = JoinSet::new();
    for task in 0..tasks {
        let queue = Arc::clone(&queue);
        writing.spawn(async move {
            let share = (CO_VALUES / tasks).max(1);
            let writes = Writes::new(task * share, share);
            for index in 0..total / tasks {
                let (done, is_done) = oneshot::channel();
                let write = writes.get(index);
                let bytes = write.approximate_bytes() as u64;
                let (batcher, added) = &*queue;
                batcher.lock().unwrap_or_else(PoisonError::into_inner).push((write, done), bytes);
                added.notify_one();
                is_done.await.expect("the writer stores everything");
            }
        });
    }
    writing.join_all().await;
    let name = format!("append 1 KB, {tasks} at a time, through a batcher");
    report(&name, total, start.elapsed());
    batching.abort();
    store.close().await.unwrap();
}

async fn write_batches(queue: Arc<(Mutex<Batcher<Job>>, Notify)>, store: Arc<dyn Storage>) {
    let (batcher, added) = &*queue;
    loop {
        let batch = batcher.lock().unwrap_or_else(PoisonError::into_inner).next_batch();
        if batch.is_empty() {
            added.notified().await;
            continue;
        }
        let (writes, done): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let outcomes = store.append(writes).await.unwrap();
        assert!(outcomes.iter().all(Outcome::is_complete));
        for done in done {
            // The tasks wait until all are done.
            let _ = done.send(());
        }
    }
}

/// Appends of many writes each.
pub(super) async fn append_in_batches<P: AsRef<Path>>(
    backend: &Backend<'_, P>,
    batch: u64,
    total: u64,
) {
    let (_directory, store) = backend.create(Durability::Flushed);
    let writes = Writes::new(0, CO_VALUES);
    let start = Instant::now();
    let mut first = 0;
    while first < total {
        let end = (first + batch).min(total);
        let outcomes = store.append((first..end).map(|index| writes.get(index)).collect()).await;
        assert!(outcomes.unwrap().iter().all(Outcome::is_complete));
        first = end;
    }
    report(&format!("append 1 KB, in batches of {batch}"), total, start.elapsed());
    store.close().await.unwrap();
}
