//! The example `append_log` keeps the contract.

use std::fs;
use std::path::Path;

use downbeat_storage::conformance::{self, Author, CoValueFixture};
use downbeat_storage::{Storage, StorageError};
use tempfile::TempDir;

#[path = "../../examples/append_log.rs"]
#[expect(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod example;

use example::AppendLog;

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn open(dir: &TempDir) -> AppendLog {
    AppendLog::open(dir.path()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_example_keeps_the_contract() {
    conformance::run(directory, open).await;
    conformance::run_reopening(directory, open).await;
}

#[cfg(unix)]
#[tokio::test]
async fn the_example_notices_that_it_was_moved() {
    conformance::run_moving(directory, async |dir: &Path| AppendLog::open(dir).unwrap()).await;
}

#[tokio::test]
async fn a_torn_record_is_removed_and_a_damaged_one_is_refused() {
    let dir = directory();
    let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
    let store = open(&dir).await;
    store.append(vec![co_value.create(vec![author.write(1, 20)])]).await.unwrap();
    let first = fs::read(dir.path().join("log")).unwrap().len();
    store.append(vec![co_value.extend(vec![author.write(1, 20)])]).await.unwrap();
    drop(store);
    let whole = fs::read(dir.path().join("log")).unwrap();
    for len in first..whole.len() {
        for zeros in [0, 100] {
            let torn = [&whole[..len], &vec![0; zeros][..]].concat();
            fs::write(dir.path().join("log"), &torn).unwrap();
            let store = open(&dir).await;
            let late = vec![co_value.create(vec![Author::new(2).write(1, 20)])];
            match store.load(co_value.id).await.unwrap() {
                Some(stored) => assert_eq!(stored.sessions[0].count, 1, "torn at {len}"),
                None => panic!("torn at {len}"),
            }
            assert!(store.append(late).await.unwrap()[0].is_complete());
            drop(store);
            assert_eq!(open(&dir).await.stats().await.unwrap().transactions, 2);
        }
    }
    let mut damaged = whole.clone();
    damaged[first - 1] ^= 1;
    fs::write(dir.path().join("log"), &damaged).unwrap();
    let refused = AppendLog::open(dir.path()).err();
    assert!(matches!(refused, Some(StorageError::Corrupt(_))), "{refused:?}");
}
