//! A comparison of both schemas: `cargo bench -p downbeat-storage-sqlite --bench schemas`. The first
//! argument is the number of rounds.

use std::path::Path;
use std::sync::Arc;

use downbeat_storage::{Storage, benchmarks};
use downbeat_storage_sqlite::{SqliteOptions, SqliteSchema, SqliteStorage};

#[tokio::main]
async fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let open = |schema| {
        move |dir: &Path| {
            let options = SqliteOptions::default().with_schema(schema);
            let store = SqliteStorage::open_with(dir.join("storage.db"), options).unwrap();
            Arc::new(store) as Arc<dyn Storage>
        }
    };
    let reference = open(SqliteSchema::Reference);
    let native = open(SqliteSchema::Native);
    let directory = || tempfile::tempdir().unwrap();
    benchmarks::compare(rounds, directory, &[("reference", &reference), ("native", &native)]).await;
}
