use std::time::Duration;

use downbeat_storage::conformance;
use downbeat_storage_sled::{Durability, SledOptions, SledStorage};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn open(dir: &TempDir) -> SledStorage {
    SledStorage::open(dir.path()).unwrap()
}

async fn open_relaxed(dir: &TempDir) -> SledStorage {
    let within = Duration::from_millis(20);
    let options = SledOptions::default().with_durability(Durability::Relaxed { within });
    SledStorage::open_with(dir.path(), options).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sled_keeps_the_contract() {
    conformance::run(directory, open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sled_keeps_its_data() {
    conformance::run_reopening(directory, open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn relaxed_durability_keeps_the_contract() {
    conformance::run(directory, open_relaxed).await;
    conformance::run_reopening(directory, open_relaxed).await;
}

#[cfg(unix)]
#[tokio::test]
async fn sled_notices_that_it_was_moved() {
    conformance::run_moving(directory, async |dir| SledStorage::open(dir).unwrap()).await;
}
