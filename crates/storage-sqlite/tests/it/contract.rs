#[cfg(unix)]
use std::path::Path;
use std::time::Duration;

use downbeat_storage::conformance;
use downbeat_storage_sqlite::{Durability, SqliteOptions, SqliteStorage};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn open(dir: &TempDir) -> SqliteStorage {
    SqliteStorage::open(dir.path().join("storage.db")).unwrap()
}

async fn open_relaxed(dir: &TempDir) -> SqliteStorage {
    let durability = Durability::Relaxed { within: Duration::from_millis(10) };
    let options = SqliteOptions::default().with_durability(durability);
    SqliteStorage::open_with(dir.path().join("storage.db"), options).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_is_kept() {
    conformance::run(directory, open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_is_kept_without_waiting_for_the_disk() {
    conformance::run(directory, open_relaxed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_on_reopening_is_kept() {
    conformance::run_reopening(directory, open).await;
    conformance::run_reopening(directory, open_relaxed).await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_contract_on_moving_is_kept() {
    let open = async |dir: &Path| SqliteStorage::open(dir.join("storage.db")).unwrap();
    conformance::run_moving(directory, open).await;
}
