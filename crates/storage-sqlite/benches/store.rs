//! What a store manages, with durability on: `cargo bench -p downbeat-storage-sqlite`.
//!
//! No benchmark harness: what is measured takes seconds and depends on the disk, so it is done once
//! and told in plain figures. An argument picks the measurements whose names contain it.

use std::env;
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_protocol::{CoValueId, KnownState, SessionContent, SessionCounts, Transaction};
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Storage, Write};
use downbeat_storage_sqlite::{Durability, SqliteOptions, SqliteStorage};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// CoValues that are written to in turn.
const CO_VALUES: u64 = 1_000;

/// A flush ten times a second.
const RELAXED: Durability = Durability::Relaxed { within: Duration::from_millis(100) };

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
        look_up_and_read(4_000),
        read_a_large_covalue(1_000),
        open_with_many_covalues(100_000),
    );
}

fn open() -> (TempDir, Arc<SqliteStorage>) {
    open_with(Durability::Flushed)
}

fn open_with(durability: Durability) -> (TempDir, Arc<SqliteStorage>) {
    let dir = tempfile::tempdir().unwrap();
    let options = SqliteOptions { durability, ..SqliteOptions::default() };
    let store = SqliteStorage::open_with(dir.path().join("storage.db"), options).unwrap();
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
    }
    store.close().await.unwrap();
}

/// What a server does for clients that fetch all after a restart, or that come back and have all:
/// the least CPU time of all threads, of which a busy machine changes less than of the time.
async fn look_up_and_read(total: u64) {
    /// Of a transaction's changes, in bytes.
    const LEN: usize = 100;
    const TRANSACTIONS: usize = 10;
    const ROUNDS: u32 = 7;
    let (dir, store) = open();
    let mut author = Author::new(1);
    let content = author.write(TRANSACTIONS, LEN);
    let co_values: Vec<_> = (0..total).map(CoValueFixture::new).collect();
    for batch in co_values.chunks(1_000) {
        let batch = batch.iter().map(|one| one.create(vec![content.clone()])).collect();
        store.append(batch).await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    let ids: Vec<_> = co_values.iter().map(|one| one.id).collect();
    for batch in [1, 32] {
        let mut least = [Duration::MAX; 4];
        for _ in 0..ROUNDS {
            for first in [0, 2] {
                let store = SqliteStorage::open(dir.path().join("storage.db")).unwrap();
                let store = Arc::new(store);
                for least in &mut least[first..first + 2] {
                    let before = cpu_time();
                    if first == 0 {
                        in_calls(&ids, batch, &store, look_up).await;
                    } else {
                        in_calls(&ids, batch, &store, read_all).await;
                    }
                    *least = (*least).min(cpu_time().saturating_sub(before));
                }
                store.close().await.unwrap();
            }
        }
        let names = ["look up, opened anew", "look up, again", "read, opened anew", "read, again"];
        for (name, least) in names.into_iter().zip(least) {
            report(&format!("{name}, {batch} a call, CPU"), total, least);
        }
    }
}

/// Calls for so many CoValues each, of which some wait at the same time.
async fn in_calls<F: Future<Output = ()> + Send + 'static>(
    ids: &[CoValueId],
    batch: usize,
    store: &Arc<SqliteStorage>,
    call: impl Fn(Arc<SqliteStorage>, Vec<CoValueId>) -> F,
) {
    const AT_A_TIME: usize = 64;
    let mut calls = JoinSet::new();
    for ids in ids.chunks(batch) {
        while calls.len() >= AT_A_TIME {
            calls.join_next().await.unwrap().unwrap();
        }
        calls.spawn(call(Arc::clone(store), ids.to_vec()));
    }
    calls.join_all().await;
}

async fn look_up(store: Arc<SqliteStorage>, ids: Vec<CoValueId>) {
    let found = store.load_many(ids).await;
    assert!(found.iter().all(|found| matches!(found, Ok(Some(_)))));
}

async fn read_all(store: Arc<SqliteStorage>, ids: Vec<CoValueId>) {
    let read = store.read_many(ids.into_iter().map(KnownState::empty).collect(), 4 << 20).await;
    assert!(read.iter().all(|runs| runs.as_ref().is_ok_and(|runs| runs.len() == 1)));
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
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

    let store = SqliteStorage::open(dir.path().join("storage.db")).unwrap();
    for cache in ["opened anew", "again"] {
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
    let store = SqliteStorage::open(dir.path().join("storage.db")).unwrap();
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
