#[cfg(unix)]
use std::path::Path;
use std::time::Duration;

use downbeat_storage::conformance;
use downbeat_storage_sqlite::{Durability, SqliteOptions, SqliteStorage};
use tempfile::TempDir;

use crate::SCHEMAS;

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(dir: &TempDir, options: SqliteOptions) -> SqliteStorage {
    SqliteStorage::open_with(dir.path().join("storage.db"), options).unwrap()
}

fn relaxed() -> SqliteOptions {
    let durability = Durability::Relaxed { within: Duration::from_millis(10) };
    SqliteOptions::default().with_durability(durability)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_is_kept() {
    for schema in SCHEMAS {
        let options = SqliteOptions::default().with_schema(schema);
        conformance::run(directory, async |dir: &TempDir| open(dir, options.clone())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_is_kept_without_waiting_for_the_disk() {
    for schema in SCHEMAS {
        let options = relaxed().with_schema(schema);
        conformance::run(directory, async |dir: &TempDir| open(dir, options.clone())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_on_reopening_is_kept() {
    for schema in SCHEMAS {
        for options in [SqliteOptions::default(), relaxed()] {
            let options = options.with_schema(schema);
            let open = async |dir: &TempDir| open(dir, options.clone());
            conformance::run_reopening(directory, open).await;
        }
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_contract_on_moving_is_kept() {
    for schema in SCHEMAS {
        let options = SqliteOptions::default().with_schema(schema);
        let open = async |dir: &Path| {
            SqliteStorage::open_with(dir.join("storage.db"), options.clone()).unwrap()
        };
        conformance::run_moving(directory, open).await;
    }
}
