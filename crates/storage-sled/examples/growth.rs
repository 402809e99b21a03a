//! Disk use of a store under live edits: `cargo run --release -p downbeat-storage-sled --example
//! growth -- [CO_VALUES] [EDITS] [BATCH] [DIR]`.
//!
//! Uploads CoValues with one transaction each, and then edits them in turn, `BATCH` edits in one
//! append, as the server does when that many clients write at the same time. Prints the bytes on
//! disk for each byte of content after each step.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use downbeat_protocol::SessionContent;
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Outcome, Storage, Write};
use downbeat_storage_sled::SledStorage;

/// Bytes of the changes of an edit. Its JSON has about 270 bytes, as the edit of a key of a map by
/// a client has.
const CHANGES_LEN: usize = 200;

/// Sessions with different signatures. The content of CoValues is equal apart from that.
const AUTHORS: u64 = 50;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).flat_map(|arg| arg.parse()).collect();
    let number = |index: usize, default| numbers.get(index).copied().unwrap_or(default);
    let (co_values, edits, batch) = (number(0, 3_000), number(1, 180_000), number(2, 32));
    let parent = match std::env::args().nth(4) {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let dir = parent.path();

    let store = SledStorage::open(dir)?;
    let all: Vec<_> = (0..co_values as u64).map(CoValueFixture::new).collect();
    let logs = logs(edits / co_values + 2);
    let started = Instant::now();
    for (number, chunk) in all.chunks(batch).enumerate() {
        let write = |(at, one): (usize, &CoValueFixture)| {
            one.create(vec![logs[(number * batch + at) % logs.len()][0].clone()])
        };
        append(&store, chunk.iter().enumerate().map(write).collect()).await?;
    }
    let mut order = Order(7);
    let mut counts = vec![1; co_values];
    let mut left = edits;
    while left > 0 {
        let mut writes = Vec::with_capacity(batch);
        while writes.len() < batch.min(left) {
            let at = order.next(co_values);
            let Some(edit) = logs[at % logs.len()].get(counts[at]) else { continue };
            counts[at] += 1;
            writes.push(all[at].extend(vec![edit.clone()]));
        }
        left -= writes.len();
        append(&store, writes).await?;
    }
    println!("wrote for {:.1} s", started.elapsed().as_secs_f64());
    show("after writing", &store, dir).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    show("5 s later", &store, dir).await?;
    store.close().await?;

    let store = SledStorage::open(dir)?;
    show("opened again", &store, dir).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    show("5 s later", &store, dir).await?;
    for (at, one) in all.iter().enumerate() {
        let mut author = Author::deleting(at as u64);
        let outcomes = store.append(vec![one.tombstone(author.delete(one.id))]).await?;
        assert!(outcomes.iter().all(Outcome::is_complete));
        while store.erase(one.id).await?.more {}
    }
    show("all erased", &store, dir).await?;
    store.close().await?;
    let store = SledStorage::open(dir)?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    show("opened again, 5 s later", &store, dir).await?;
    store.close().await?;
    Ok(())
}

/// The edits of each author, with twice the mean number of edits of a CoValue.
fn logs(mean: usize) -> Vec<Vec<SessionContent>> {
    let log = |number| {
        let mut author = Author::new(number);
        (0..2 * mean).map(|_| author.write(1, CHANGES_LEN)).collect()
    };
    (0..AUTHORS).map(log).collect()
}

async fn append(store: &SledStorage, writes: Vec<Write>) -> Result<(), Box<dyn Error>> {
    let outcomes = store.append(writes).await?;
    assert!(outcomes.iter().all(Outcome::is_complete));
    Ok(())
}

async fn show(step: &str, store: &SledStorage, dir: &Path) -> Result<(), Box<dyn Error>> {
    let content = store.stats().await?.transaction_bytes;
    let mut disk = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        disk += if entry.file_name() == "reserve" { 0 } else { entry.metadata()?.len() };
    }
    #[expect(clippy::cast_precision_loss, reason = "the ratio is rounded for display")]
    let ratio = disk as f64 / content.max(1) as f64;
    println!("{step}: {} MB of content, {} MB on disk, {ratio:.2}", content >> 20, disk >> 20);
    Ok(())
}

/// Pseudo-random numbers from a seed.
struct Order(u64);

impl Order {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).unwrap_or_default()
    }
}
