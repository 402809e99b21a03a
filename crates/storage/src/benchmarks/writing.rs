//! Measurements of writing.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use downbeat_protocol::SessionContent;
use tokio::task::JoinSet;

use super::{Backend, extension, report};
use crate::conformance::{Author, CoValueFixture};
use crate::durability::Durability;
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

/// Appends of many writes each, as the node makes them.
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
