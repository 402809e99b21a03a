//! Kills a process that writes to a store, many times, and checks the store after each kill.
//!
//! A binary of its own, because it starts itself as the process to kill. With a directory in its
//! environment it writes there until it is killed, and prints the acknowledged counts. Without one
//! it is the test.

use std::collections::HashMap;
use std::env;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use downbeat_protocol::{SessionContent, SessionCounts};
use downbeat_storage::Storage;
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage_sled::SledStorage;
use tokio::task::JoinSet;

/// Kills in one run.
const KILLS: u64 = 20;

/// Kills of a process that compacts the store.
const COMPACTION_KILLS: u64 = 20;

/// Writers at a time.
const STREAMS: u64 = 4;

/// CoValues that each batch of a writer extends.
const CO_VALUES: u64 = 10;

const DIRECTORY: &str = "DOWNBEAT_CRASH_TEST_DIRECTORY";

/// With this variable too, the process compacts the store there again and again.
const COMPACT: &str = "DOWNBEAT_CRASH_TEST_COMPACT";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match env::var_os(DIRECTORY) {
        Some(dir) if env::var_os(COMPACT).is_some() => compact_until_killed(Path::new(&dir)),
        Some(dir) => runtime.block_on(write_until_killed(Path::new(&dir))),
        None => runtime.block_on(kill_and_check()),
    }
}

fn co_values(stream: u64) -> impl Iterator<Item = CoValueFixture> {
    (0..CO_VALUES).map(move |number| CoValueFixture::new(stream * CO_VALUES + number))
}

/// The author of a stream, after `count` extensions of one transaction each.
fn author(stream: u64, count: u64) -> Author {
    let mut author = Author::new(stream);
    while author.count() < count {
        extend(&mut author);
    }
    author
}

/// Every fourth batch is longer than a segment of sled (2 MiB).
fn extend(author: &mut Author) -> SessionContent {
    let len = [20, 300, 5_000, 250_000][author.log.len() % 4];
    author.write(1, len)
}

async fn write_until_killed(dir: &Path) {
    let store = Arc::new(SledStorage::open(dir).unwrap());
    let mut streams = JoinSet::new();
    for stream in 0..STREAMS {
        streams.spawn(write_stream(Arc::clone(&store), stream));
    }
    streams.join_all().await;
}

/// Writes without end.
async fn write_stream(store: Arc<SledStorage>, stream: u64) {
    let first = co_values(stream).next().unwrap();
    let stored = store.load(first.id).await.unwrap();
    let count = stored.map_or(0, |stored| stored.counts().iter().map(|(_, count)| count).sum());
    let mut author = author(stream, count);
    while author.count() < u64::MAX {
        let content = extend(&mut author);
        let batch = co_values(stream).map(|one| one.create(vec![content.clone()]));
        for outcome in store.append(batch.collect()).await.unwrap() {
            assert!(outcome.is_complete(), "{outcome:?}");
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{stream} {}", author.count()).unwrap();
        out.flush().unwrap();
    }
}

async fn kill_and_check() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = HashMap::new();
    let mut progress = 0;
    for round in 0..KILLS {
        // From an instant within the opening to long after it.
        let life = Duration::from_millis(10 + round * round * 17 % 600);
        run_and_kill(dir.path(), life, &mut acknowledged);
        check(dir.path(), &acknowledged).await;
        progress = acknowledged.values().sum();
    }
    assert!(progress > 0, "something was written between the kills");
    kill_compactions(dir.path(), &acknowledged).await;
    println!("{progress} batches acknowledged over {KILLS} kills, none lost or torn");
}

/// Compacts without end. Prints a line each time the store is compacted.
fn compact_until_killed(dir: &Path) {
    loop {
        SledStorage::compact(dir, |_, _| ()).unwrap();
        let mut out = io::stdout().lock();
        writeln!(out, "compacted").unwrap();
        out.flush().unwrap();
    }
}

/// Kills a process that compacts, and checks that all content is still there.
async fn kill_compactions(dir: &Path, acknowledged: &HashMap<u64, u64>) {
    let (mut lines, mut copies) = (0, 0);
    for round in 0..COMPACTION_KILLS {
        let life = Duration::from_millis(20 + round * round * 53 % 2_500);
        let mut child = Command::new(env::current_exe().unwrap())
            .env(DIRECTORY, dir)
            .env(COMPACT, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        thread::sleep(life);
        assert!(child.try_wait().unwrap().is_none(), "it compacts until it is killed");
        child.kill().unwrap();
        lines += io::read_to_string(child.stdout.take().unwrap()).unwrap().lines().count();
        child.wait().unwrap();
        let is_left = |name: &str| dir.join(name).exists();
        copies += usize::from(is_left("compacting") || is_left("compacted"));
        check(dir, acknowledged).await;
        assert!(!is_left("compacting") && !is_left("compacted"));
    }
    assert!(copies > 0, "some were killed while they copied");
    println!("{COMPACTION_KILLS} compactions killed, {copies} of them in the middle; {lines} done");
}

/// Runs a process for some time, kills it, and notes the acknowledged counts.
fn run_and_kill(dir: &Path, life: Duration, acknowledged: &mut HashMap<u64, u64>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let listening = thread::spawn(move || out.lines().map_while(Result::ok).collect::<Vec<_>>());
    thread::sleep(life);
    assert!(child.try_wait().unwrap().is_none(), "the writer lives until it is killed");
    child.kill().unwrap();
    child.wait().unwrap();
    for line in listening.join().unwrap() {
        // The kill may have cut the last line.
        let mut numbers = line.split(' ').map(str::parse::<u64>);
        if let (Some(Ok(stream)), Some(Ok(count))) = (numbers.next(), numbers.next()) {
            let before = acknowledged.entry(stream).or_default();
            *before = count.max(*before);
        }
    }
}

/// Checks that everything acknowledged is stored, that every batch is stored for all its CoValues
/// or for none, and that all content is the written content.
async fn check(dir: &Path, acknowledged: &HashMap<u64, u64>) {
    let store = SledStorage::open(dir).unwrap();
    let mut transactions = 0;
    for stream in 0..STREAMS {
        let mut counts = Vec::new();
        for co_value in co_values(stream) {
            let counted = match store.load(co_value.id).await.unwrap() {
                Some(stored) => stored.counts().iter().map(|(_, count)| count).sum(),
                None => 0,
            };
            let runs = store.read(co_value.id, &SessionCounts::new(), usize::MAX).await.unwrap();
            let author = author(stream, counted);
            let read: Vec<_> = runs.iter().flat_map(|run| run.transactions.clone()).collect();
            assert!(read == author.log, "the content of {} is the author's", co_value.id);
            if let Some(run) = runs.last() {
                assert_eq!(run.last_signature, author.signature());
            }
            counts.push(counted);
            transactions += counted;
        }
        let acknowledged = acknowledged.get(&stream).copied().unwrap_or(0);
        counts.dedup();
        assert_eq!(counts.len(), 1, "a batch is whole or not there: {counts:?}");
        assert!(counts[0] >= acknowledged, "{acknowledged} acknowledged, {counts:?} there");
    }
    assert_eq!(store.stats().await.unwrap().transactions, transactions);
    store.close().await.unwrap();
}
