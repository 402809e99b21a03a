//! A comparison of backends, or of variants of one, in one interleaved run.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_protocol::{KnownState, SessionCounts};

use super::{cpu_time, extension, fixtures};
use crate::conformance::{Author, CoValueFixture};
use crate::storage::Storage;
use crate::types::{Outcome, Write};

/// Opens a store in a directory.
pub type Open<'a> = &'a dyn Fn(&Path) -> Arc<dyn Storage>;

/// Runs the same workloads on each of these stores, `rounds` times in turn, and prints the medians.
/// `directory` makes an empty directory. Bytes written are those that the process passes to the
/// disk, as Linux counts them.
///
/// # Panics
///
/// If a store fails, or `rounds` is 0.
pub async fn compare<P: AsRef<Path>>(
    rounds: usize,
    directory: impl Fn() -> P,
    stores: &[(&str, Open<'_>)],
) {
    let mut measured = vec![Vec::new(); stores.len()];
    for _ in 0..rounds {
        for ((_, open), measured) in stores.iter().zip(&mut measured) {
            measured.push(measure(directory().as_ref(), open).await);
        }
    }
    println!("{:<44} {:<12} {:>10} {:>12} {:>12}", "", "", "CPU µs", "elapsed µs", "bytes");
    for index in 0..measured[0][0].len() {
        for ((name, _), rounds) in stores.iter().zip(&measured) {
            let Figures { workload, .. } = rounds[0][index];
            let median = |figure: fn(&Figures) -> f64| {
                let mut all: Vec<_> = rounds.iter().map(|round| figure(&round[index])).collect();
                all.sort_by(f64::total_cmp);
                all[all.len() / 2]
            };
            let (cpu, elapsed) = (median(|one| one.cpu), median(|one| one.elapsed));
            let bytes = median(|one| one.bytes);
            println!("{workload:<44} {name:<12} {cpu:>10.1} {elapsed:>12.1} {bytes:>12.0}");
        }
    }
}

/// The cost of one operation of a workload.
#[derive(Debug, Clone, Copy)]
struct Figures {
    workload: &'static str,
    /// Microseconds.
    cpu: f64,
    /// Microseconds.
    elapsed: f64,
    /// Bytes written. In figures of a size, the bytes in the directory.
    bytes: f64,
}

/// All workloads on a new store.
async fn measure(dir: &Path, open: Open<'_>) -> Vec<Figures> {
    let mut figures = Vec::new();
    let mut store = open(dir);

    let (co_values, batches) = uploads(6_000, 32);
    figures.push(append("upload a CoValue, 32 at a time", 6_000, batches, &store).await);
    reopen(&mut store, dir, open).await;
    figures.push(disk("disk after uploads, by CoValue", 6_000, dir));
    figures.push(fetch(&co_values, &store).await);
    figures.push(look_up(&co_values, &store).await);

    for (workload, first, batch) in
        [("edit, 4 at a time", 100_000, 4), ("edit, 32 at a time", 200_000, 32)]
    {
        let batches = edits(first, 20_000, batch);
        figures.push(append(workload, 20_000, batches, &store).await);
    }
    reopen(&mut store, dir, open).await;
    figures.push(disk("disk after edits, by edit", 40_000, dir));
    figures.push(read("read edits, by edit", 100_000..100_100, 20_000, &store).await);

    let megabytes = 50;
    figures.push(stream(megabytes, &store).await);
    reopen(&mut store, dir, open).await;
    figures.push(read("stream down, by MB", 300_000..300_001, megabytes, &store).await);

    figures.push(erase(&co_values[..3_000], &store).await);
    reopen(&mut store, dir, open).await;
    figures.push(disk("disk after erasing 3,000, by CoValue", 6_000, dir));
    store.close().await.unwrap();
    figures
}

async fn reopen(store: &mut Arc<dyn Storage>, dir: &Path, open: Open<'_>) {
    store.close().await.unwrap();
    *store = open(dir);
}

/// New CoValues with one session of 10 transactions, in batches.
fn uploads(count: u64, batch: usize) -> (Vec<CoValueFixture>, Vec<Vec<Write>>) {
    let content = Author::new(1).write(10, 150);
    let co_values = fixtures(count);
    let creates: Vec<_> = co_values.iter().map(|one| one.create(vec![content.clone()])).collect();
    (co_values, creates.chunks(batch).map(<[_]>::to_vec).collect())
}

/// Extensions of 100 CoValues in turn by one transaction, in batches. The first creates them.
fn edits(first: u64, count: u64, batch: usize) -> Vec<Vec<Write>> {
    const CO_VALUES: u64 = 100;
    let mut author = Author::new(first);
    let transaction = author.write(1, 150).transactions.remove(0);
    let co_values: Vec<_> = (first..first + CO_VALUES).map(CoValueFixture::new).collect();
    let writes = (0..count / CO_VALUES).flat_map(|after| {
        let content = extension(&author, after, &transaction);
        co_values.iter().map(move |one| one.create(vec![content.clone()]))
    });
    let writes: Vec<_> = writes.collect();
    writes.chunks(batch).map(<[_]>::to_vec).collect()
}

async fn append(
    workload: &'static str,
    operations: u32,
    batches: Vec<Vec<Write>>,
    store: &Arc<dyn Storage>,
) -> Figures {
    let meter = Meter::start();
    for batch in batches {
        let outcomes = store.append(batch).await.unwrap();
        assert!(outcomes.iter().all(Outcome::is_complete));
    }
    meter.stop(workload, operations)
}

/// One CoValue of 100 KiB transactions, as of a file.
async fn stream(megabytes: u32, store: &Arc<dyn Storage>) -> Figures {
    let (co_value, mut author) = (CoValueFixture::new(300_000), Author::new(300_000));
    let transaction = author.write(1, 100 << 10).transactions.remove(0);
    let writes = (0..u64::from(megabytes) * 10)
        .map(|after| co_value.create(vec![extension(&author, after, &transaction)]));
    let writes: Vec<_> = writes.collect();
    let batches = writes.chunks(4).map(<[_]>::to_vec).collect();
    append("stream up, by MB", megabytes, batches, store).await
}

/// Reads all of some CoValues, in pieces of a megabyte.
async fn read(
    workload: &'static str,
    numbers: std::ops::Range<u64>,
    operations: u32,
    store: &Arc<dyn Storage>,
) -> Figures {
    let meter = Meter::start();
    for number in numbers {
        let id = CoValueFixture::new(number).id;
        let mut have = SessionCounts::new();
        loop {
            let runs = store.read(id, &have, 1 << 20).await.unwrap();
            let Some(last) = runs.last() else { break };
            have.set(&last.session, last.end());
        }
    }
    meter.stop(workload, operations)
}

async fn fetch(co_values: &[CoValueFixture], store: &Arc<dyn Storage>) -> Figures {
    let meter = Meter::start();
    for ids in co_values.chunks(32) {
        let known = ids.iter().map(|one| KnownState::empty(one.id)).collect();
        assert!(store.read_many(known, 4 << 20).await.iter().all(Result::is_ok));
    }
    meter.stop("fetch a CoValue, 32 at a time", count(co_values))
}

async fn look_up(co_values: &[CoValueFixture], store: &Arc<dyn Storage>) -> Figures {
    let meter = Meter::start();
    for ids in co_values.chunks(32) {
        let found = store.load_many(ids.iter().map(|one| one.id).collect()).await;
        assert!(found.iter().all(|found| matches!(found, Ok(Some(_)))));
    }
    meter.stop("look up a CoValue, 32 at a time", count(co_values))
}

async fn erase(co_values: &[CoValueFixture], store: &Arc<dyn Storage>) -> Figures {
    let tombstones = co_values.iter().map(|one| one.tombstone(Author::deleting(1).delete(one.id)));
    store.append(tombstones.collect()).await.unwrap();
    let meter = Meter::start();
    for co_value in co_values {
        while store.erase(co_value.id).await.unwrap().more {}
    }
    meter.stop("erase a CoValue", count(co_values))
}

/// The bytes of all files in a directory.
fn disk(workload: &'static str, operations: u32, dir: &Path) -> Figures {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    let reserve = files.filter(|len| *len != 1 << 20);
    let bytes = f64::from(u32::try_from(reserve.sum::<u64>()).expect("stores are small"));
    Figures { workload, cpu: 0.0, elapsed: 0.0, bytes: bytes / f64::from(operations) }
}

fn count(co_values: &[CoValueFixture]) -> u32 {
    u32::try_from(co_values.len()).expect("counts are small")
}

/// Measures a workload.
struct Meter {
    start: Instant,
    cpu: Duration,
    written: f64,
}

impl Meter {
    fn start() -> Self {
        Self { start: Instant::now(), cpu: cpu_time(), written: bytes_written() }
    }

    fn stop(self, workload: &'static str, operations: u32) -> Figures {
        let operations = f64::from(operations);
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / operations;
        Figures {
            workload,
            cpu: micros(cpu_time().saturating_sub(self.cpu)),
            elapsed: micros(self.start.elapsed()),
            bytes: (bytes_written() - self.written) / operations,
        }
    }
}

/// Bytes that this process has written; 0 where the system does not count them.
fn bytes_written() -> f64 {
    let counters = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let written = counters.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    written.and_then(|bytes| bytes.parse().ok()).unwrap_or(0.0)
}
