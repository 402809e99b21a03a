//! Measurements of reading and opening.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_protocol::{CoValueId, KnownState, SessionCounts};
use tokio::task::JoinSet;

use super::{Backend, cpu_time, extension, fixtures, report};
use crate::conformance::{Author, CoValueFixture};
use crate::durability::Durability;
use crate::storage::Storage;

/// CoValues that are loaded in turn.
const CO_VALUES: u64 = 1_000;

/// Tasks that load at the same time.
const LOADS_AT_A_TIME: u64 = 8;

/// Look-ups of CoValues that are in memory.
pub(super) async fn load_warm<P: AsRef<Path>>(backend: &Backend<'_, P>, total: u64) {
    let (_directory, store) = backend.create(Durability::Flushed);
    let co_values = fixtures(CO_VALUES);
    let count = usize::try_from(total).expect("counts are small");
    for sessions in [1, 10] {
        let contents: Vec<_> =
            (0..sessions).map(Author::new).map(|mut author| author.write(1, 100)).collect();
        let creates = co_values.iter().map(|co_value| co_value.create(contents.clone()));
        store.append(creates.collect()).await.unwrap();
        let ids: Arc<[CoValueId]> = co_values.iter().map(|co_value| co_value.id).collect();
        let start = Instant::now();
        for id in ids.iter().cycle().take(count) {
            assert!(store.load(*id).await.unwrap().is_some());
        }
        report(&format!("load, warm, {sessions} sessions"), total, start.elapsed());
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..LOADS_AT_A_TIME {
            let (store, ids) = (Arc::clone(&store), Arc::clone(&ids));
            tasks.spawn(async move {
                for id in ids.iter().cycle().take(count) {
                    assert!(store.load(*id).await.unwrap().is_some());
                }
            });
        }
        tasks.join_all().await;
        let name = format!("load, warm, {sessions} sessions, {LOADS_AT_A_TIME} at a time");
        report(&name, total * LOADS_AT_A_TIME, start.elapsed());
    }
    store.close().await.unwrap();
}

/// Reads a log that was written transaction by transaction, and one with the same content that was
/// written in large extensions. The difference is the possible gain of compaction.
pub(super) async fn read_small_appends<P: AsRef<Path>>(
    backend: &Backend<'_, P>,
    transactions: u64,
) {
    let (directory, store) = backend.create(Durability::Flushed);
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
    let store = backend.open(&directory);
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
            report(&format!("read a log written {how}, {cache}"), read, start.elapsed());
        }
    }
    store.close().await.unwrap();
}

/// The work of a server for clients that fetch everything after a restart, and for clients that
/// come back and have everything. Measures the least CPU time of all threads over several rounds: a
/// busy machine affects it less than the elapsed time.
pub(super) async fn look_up_and_read<P: AsRef<Path>>(backend: &Backend<'_, P>, total: u64) {
    /// Bytes of a transaction's changes.
    const LEN: usize = 100;
    const TRANSACTIONS: usize = 10;
    const ROUNDS: u32 = 7;
    const NAMES: [&str; 4] =
        ["look up, just opened", "look up, again", "read, just opened", "read, again"];
    let (directory, store) = backend.create(Durability::Flushed);
    let content = Author::new(1).write(TRANSACTIONS, LEN);
    let co_values = fixtures(total);
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
                let store = backend.open(&directory);
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
        for (name, least) in NAMES.into_iter().zip(least) {
            report(&format!("{name}, {batch} a call, CPU"), total, least);
        }
    }
}

/// Calls `call` with `batch` CoValues each, several calls at the same time.
async fn in_calls<F: Future<Output = ()> + Send + 'static>(
    ids: &[CoValueId],
    batch: usize,
    store: &Arc<dyn Storage>,
    call: impl Fn(Arc<dyn Storage>, Vec<CoValueId>) -> F,
) {
    const AT_A_TIME: usize = 64;
    let mut calls = JoinSet::new();
    for ids in ids.chunks(batch) {
        while calls.len() >= AT_A_TIME {
            calls.join_next().await.expect("there are calls").unwrap();
        }
        calls.spawn(call(Arc::clone(store), ids.to_vec()));
    }
    calls.join_all().await;
}

async fn look_up(store: Arc<dyn Storage>, ids: Vec<CoValueId>) {
    let found = store.load_many(ids).await;
    assert!(found.iter().all(|found| matches!(found, Ok(Some(_)))));
}

async fn read_all(store: Arc<dyn Storage>, ids: Vec<CoValueId>) {
    let read = store.read_many(ids.into_iter().map(KnownState::empty).collect(), 4 << 20).await;
    assert!(read.iter().all(|runs| runs.as_ref().is_ok_and(|runs| runs.len() == 1)));
}

/// Reads one CoValue of 100 KB transactions from start to end.
pub(super) async fn read_a_large_covalue<P: AsRef<Path>>(backend: &Backend<'_, P>, megabytes: u64) {
    let (directory, store) = backend.create(Durability::Flushed);
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

    let store = backend.open(&directory);
    for cache in ["just opened", "again"] {
        let mut have = SessionCounts::new();
        let mut bytes = 0_u32;
        let start = Instant::now();
        loop {
            let runs = store.read(co_value.id, &have, 4 << 20).await.unwrap();
            let Some(last) = runs.last() else { break };
            have.set(&author.session, last.end());
            let read = runs.iter().flat_map(|run| &run.transactions).map(|tx| tx.json().len());
            bytes += u32::try_from(read.sum::<usize>()).expect("reads are bounded");
        }
        let time = start.elapsed();
        let rate = f64::from(bytes) / 1e6 / time.as_secs_f64();
        let name = format!("read, {cache}");
        println!("{name:<44} {bytes:>12} bytes in {time:>10.2?}: {rate:>9.0} MB/s");
    }
    store.close().await.unwrap();
}

/// Opens a store of many CoValues.
pub(super) async fn open_with_many_covalues<P: AsRef<Path>>(backend: &Backend<'_, P>, total: u64) {
    let (directory, store) = backend.create(Durability::Flushed);
    let content = Author::new(1).write(5, 100);
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
    let store = backend.open(&directory);
    println!("{:<44} {total:>12} in {:>10.2?}", "open a store of CoValues", start.elapsed());
    println!("{:?}", store.stats().await.unwrap());
    store.close().await.unwrap();
}
