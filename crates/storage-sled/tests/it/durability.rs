use std::fs;
use std::path::Path;
use std::time::Duration;

use downbeat_protocol::CoValueId;
use downbeat_storage::Storage;
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage_sled::{Durability, SledOptions, SledStorage};
use tempfile::TempDir;

/// A copy of a store's files in their current state, as a killed process leaves them. The open
/// store may have more in memory.
fn image(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("blobs")).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    copy
}

/// The number of transactions of a CoValue in the image of a store.
async fn count_in(image: &TempDir, id: CoValueId) -> u64 {
    let store = SledStorage::open(image.path()).unwrap();
    let stored = store.load(id).await.unwrap();
    stored.map_or(0, |stored| stored.sessions.iter().map(|session| session.count).sum())
}

#[tokio::test]
async fn what_was_appended_is_in_the_files_when_append_returns() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStorage::open(dir.path()).unwrap();
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    for len in [20, 1_000, 20, 300_000, 20] {
        let content = author.write(1, len);
        store.append(vec![co_value.create(vec![content])]).await.unwrap();
        assert_eq!(count_in(&image(dir.path()), co_value.id).await, author.count());
    }
}

#[tokio::test]
async fn relaxed_writes_are_in_the_files_a_little_later() {
    let dir = tempfile::tempdir().unwrap();
    let within = Duration::from_millis(200);
    let durability = Durability::Relaxed { within };
    let options = SledOptions::default().with_durability(durability);
    let store = SledStorage::open_with(dir.path(), options).unwrap();
    let co_value = CoValueFixture::new(1);
    let content = Author::new(1).write(1, 20);
    store.append(vec![co_value.create(vec![content])]).await.unwrap();
    tokio::time::sleep(within * 2).await;
    assert_eq!(count_in(&image(dir.path()), co_value.id).await, 1);
}

#[tokio::test]
async fn nothing_is_put_into_files_of_their_own_that_are_never_synced() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStorage::open(dir.path()).unwrap();
    let meta = format!(r#"{{"text":"{}"}}"#, "x".repeat(60_000));
    let mut author = Author::new(1);
    // Most records have the longest length, and their keys are spread over the tree.
    for round in 0..20 {
        let co_values = (0..20).map(|number| CoValueFixture::with_meta(number * 20 + round, &meta));
        let content = author.write(1, 60_000);
        let batch = co_values.map(|co_value| co_value.create(vec![content.clone()]));
        store.append(batch.collect()).await.unwrap();
    }
    store.close().await.unwrap();
    assert_eq!(fs::read_dir(dir.path().join("blobs")).unwrap().count(), 0);
}
