//! The speed of the store: `cargo bench -p downbeat-storage-sqlite`.

use downbeat_storage::benchmarks::{self, Sizes};
use downbeat_storage_sqlite::{SqliteOptions, SqliteStorage};

#[tokio::main]
async fn main() {
    let directory = || tempfile::tempdir().unwrap();
    benchmarks::run(Sizes::default(), directory, |dir, durability| {
        let options = SqliteOptions::default().with_durability(durability);
        SqliteStorage::open_with(dir.join("storage.db"), options).unwrap()
    })
    .await;
}
