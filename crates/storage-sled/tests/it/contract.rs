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
    let options =
        SledOptions { durability: Durability::Relaxed { within }, ..SledOptions::default() };
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
