//! The speed of the store: `cargo bench -p downbeat-storage-sled`.

use downbeat_storage::benchmarks::{self, Sizes};
use downbeat_storage_sled::{SledOptions, SledStorage};

#[tokio::main]
async fn main() {
    let sizes = Sizes::default().with_opened_co_values(1_000_000);
    let directory = || tempfile::tempdir().unwrap();
    benchmarks::run(sizes, directory, |dir, durability| {
        SledStorage::open_with(dir, SledOptions::default().with_durability(durability)).unwrap()
    })
    .await;
}
