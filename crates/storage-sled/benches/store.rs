//! What a store manages, with durability on: `cargo bench -p downbeat-storage-sled`.
//!
//! No benchmark harness: what is measured takes seconds and depends on the disk, so it is done once
//! and told in plain figures. An argument picks the measurements whose names contain it.

use std::env;
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_protocol::{CoValueId, SessionContent, SessionCounts, Transaction};
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Storage, Write};
use downbeat_storage_sled::{Durability, SledOptions, SledStorage};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// CoValues that are written to in turn.
const CO_VALUES: u64 = 1_000;

/// A flush ten times a second.
const RELAXED: Durability = Durability::Relaxed { within: Duration::from_millis(100) };

/// Tasks that load at the same time.
const LOADS_AT_A_TIME: u64 = 8;

/// Bytes of a transaction's changes, such that its JSON is about 1 KB.
const CHANGES_LEN: usize = 950;

#[tokio::main]
async fn main() {
    let filter = env::args().nth(1).filter(|arg| !arg.starts_with('-')).unwrap_or_default();
    macro_rules! measure {
        ($($name:ident $arguments:tt),* $(,)?) => {
            $(if stringify!($name).contains(&filter) {
                $name $arguments.await;
            })*
        };
    }
    measure!(
        append_one_by_one(Durability::Flushed, 1, 2_000),
        append_one_by_one(Durability::Flushed, 64, 50_000),
        append_one_by_one(Durability::Flushed, 1_024, 200_000),
        append_one_by_one(RELAXED, 1, 20_000),
        append_one_by_one(RELAXED, 64, 50_000),
        append_in_batches(1_024, 200_000),
        append_in_batches(4_096, 200_000),
        load_warm(20_000),
        read_small_appends(100_000),
        read_a_large_covalue(1_000),
        open_with_many_covalues(1_000_000),
    );
}

fn open() -> (TempDir, Arc<SledStorage>) {
    open_with(Durability::Flushed)
}

fn open_with(durability: Durability) -> (TempDir, Arc<SledStorage>) {
    let dir = tempfile::tempdir().unwrap();
    let options = SledOptions { durability, ..SledOptions::default() };
    let store = SledStorage::open_with(dir.path(), options).unwrap();
    (dir, Arc::new(store))
}

/// An extension of 1 KB that fits a log of this length. Nobody verifies it.
fn extension(author: &Author, after: u64, transaction: &Transaction) -> SessionContent {
    SessionContent {
        session: author.session.clone(),
        after,
        transactions: vec![transaction.clone()],
        last_signature: author.signature(),
    }
}

/// The writes number `index` of a stream of them: CoValue after CoValue, and again.
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
        let co_value = &self.co_values[usize::try_from(index % count).unwrap()];
        let after = index / count;
        let content = SessionContent { after, ..self.content.clone() };
        if after == 0 { co_value.create(vec![content]) } else { co_value.extend(vec![content]) }
    }
}

async fn append_one_by_one(durability: Durability, at_a_time: u64, total: u64) {
    let (_dir, store) = open_with(durability);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for writer in 0..at_a_time {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let share = (CO_VALUES / at_a_time).max(1);
            let writes = Writes::new(writer * share, share);
            for index in 0..total / at_a_time {
                let outcomes = store.append(vec![writes.get(index)]).await.unwrap();
                assert!(outcomes[0].is_complete());
            }
        });
    }
    tasks.join_all().await;
    let how = if durability == Durability::Flushed { "flushed" } else { "relaxed" };
    report(&format!("append 1 KB, {at_a_time} at a time, {how}"), total, start.elapsed());
    store.close().await.unwrap();
}

async fn append_in_batches(batch: u64, total: u64) {
    let (_dir, store) = open();
    let writes = Writes::new(0, CO_VALUES);
    let start = Instant::now();
    for first in (0..total).step_by(usize::try_from(batch).unwrap()) {
        let batch = (first..(first + batch).min(total)).map(|index| writes.get(index)).collect();
        let outcomes = store.append(batch).await.unwrap();
        assert!(outcomes.iter().all(downbeat_storage::Outcome::is_complete));
    }
    report(&format!("append 1 KB, in batches of {batch}"), total, start.elapsed());
    store.close().await.unwrap();
}

async fn load_warm(total: u64) {
    let (_dir, store) = open();
    let writes = Writes::new(0, CO_VALUES);
    for sessions in [1, 10] {
        for co_value in &writes.co_values {
            let contents = (0..sessions).map(Author::new).map(|mut author| author.write(1, 100));
            store.append(vec![co_value.create(contents.collect())]).await.unwrap();
        }
        let start = Instant::now();
        for co_value in writes.co_values.iter().cycle().take(usize::try_from(total).unwrap()) {
            assert!(store.load(co_value.id).await.unwrap().is_some());
        }
        report(&format!("load, warm, {sessions} sessions"), total, start.elapsed());
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..LOADS_AT_A_TIME {
            let (store, ids) = (Arc::clone(&store), ids(&writes.co_values));
            tasks.spawn(async move {
                for id in ids.iter().cycle().take(usize::try_from(total).unwrap()) {
                    assert!(store.load(*id).await.unwrap().is_some());
                }
            });
        }
        tasks.join_all().await;
        let what = format!("load, warm, {sessions} sessions, {LOADS_AT_A_TIME} at a time");
        report(&what, total * LOADS_AT_A_TIME, start.elapsed());
    }
    store.close().await.unwrap();
}

fn ids(co_values: &[CoValueFixture]) -> Vec<CoValueId> {
    co_values.iter().map(|co_value| co_value.id).collect()
}

/// A log that came in transaction by transaction, and another of the same content that came at
/// once: what rewriting the one as the other would gain.
async fn read_small_appends(transactions: u64) {
    let (dir, store) = open();
    let co_value = CoValueFixture::new(1);
    let (mut slow, mut fast) = (Author::new(1), Author::new(2));
    let transaction = slow.write(1, 100).transactions.remove(0);
    for first in (0..transactions).step_by(1_000) {
        let batch = (first..first + 1_000)
            .map(|after| co_value.create(vec![extension(&slow, after, &transaction)]))
            .collect();
        store.append(batch).await.unwrap();
    }
    for _ in (0..transactions).step_by(1_000) {
        store.append(vec![co_value.create(vec![fast.write(1_000, 100)])]).await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    let store = SledStorage::open(dir.path()).unwrap();
    for cache in ["cold", "warm"] {
        for (author, other, how) in [(&slow, &fast, "one by one"), (&fast, &slow, "by 1,000")] {
            let mut have = SessionCounts::new();
            have.set(&other.session, u64::MAX);
            let start = Instant::now();
            let mut read = 0;
            loop {
                let runs = store.read(co_value.id, &have, 1 << 20).await.unwrap();
                let Some(last) = runs.last() else { break };
                have.set(&author.session, last.end());
                read += runs.iter().map(|run| run.transactions.len() as u64).sum::<u64>();
            }
            assert_eq!(read, transactions);
            report(&format!("read a log that came {how}, {cache}"), read, start.elapsed());
        }
    }
    store.close().await.unwrap();
}

async fn read_a_large_covalue(megabytes: u64) {
    let (dir, store) = open();
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    let transaction = author.write(1, 100_000).transactions.remove(0);
    let start = Instant::now();
    let total = megabytes * 10;
    for first in (0..total).step_by(100) {
        let batch = (first..first + 100)
            .map(|after| co_value.create(vec![extension(&author, after, &transaction)]))
            .collect();
        store.append(batch).await.unwrap();
    }
    report("append 100 KB, in batches of 100", total, start.elapsed());
    store.close().await.unwrap();
    drop(store);

    let store = SledStorage::open(dir.path()).unwrap();
    for cache in ["sled's cache cold", "sled's cache warmed"] {
        let mut have = SessionCounts::new();
        let mut bytes = 0_u32;
        let start = Instant::now();
        loop {
            let runs = store.read(co_value.id, &have, 4 << 20).await.unwrap();
            let Some(last) = runs.last() else { break };
            have.set(&author.session, last.end());
            let read = runs.iter().flat_map(|run| &run.transactions).map(|tx| tx.json().len());
            bytes += u32::try_from(read.sum::<usize>()).unwrap();
        }
        let time = start.elapsed();
        let rate = f64::from(bytes) / 1e6 / time.as_secs_f64();
        println!(
            "{:<44} {bytes:>12} bytes in {time:>10.2?}: {rate:>9.0} MB/s",
            format!("read, {cache}")
        );
    }
    store.close().await.unwrap();
}

async fn open_with_many_covalues(total: u64) {
    let (dir, store) = open();
    let mut author = Author::new(1);
    let content = author.write(5, 100);
    let start = Instant::now();
    for first in (0..total).step_by(1_000) {
        let batch = (first..first + 1_000)
            .map(|number| CoValueFixture::new(number).create(vec![content.clone()]))
            .collect();
        store.append(batch).await.unwrap();
    }
    report("create CoValues of 5 transactions", total, start.elapsed());
    store.close().await.unwrap();
    drop(store);
    let start = Instant::now();
    let store = SledStorage::open(dir.path()).unwrap();
    println!("{:<44} {total:>12} in {:>10.2?}", "open a store of CoValues", start.elapsed());
    println!("{:?}", store.stats().await.unwrap());
    store.close().await.unwrap();
}

fn report(what: &str, count: u64, time: Duration) {
    let numbers = f64::from(u32::try_from(count).unwrap());
    let each = time.as_secs_f64() * 1e6 / numbers;
    let rate = numbers / time.as_secs_f64();
    println!("{what:<44} {count:>12} in {time:>10.2?}: {rate:>9.0} /s, {each:>8.1} µs each");
}
