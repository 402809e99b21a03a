//! A store that is moved while it is open.

use std::fs;

use downbeat_storage::Storage;
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage_sled::SledStorage;

/// sled has its one file open all the time.
#[tokio::test]
async fn a_store_that_was_moved_away_can_still_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (here, away) = (dir.path().join("store"), dir.path().join("away"));
    let store = SledStorage::open(&here).unwrap();
    let co_value = CoValueFixture::new(1);
    let content = Author::new(1).write(1, 20);
    store.append(vec![co_value.create(vec![content])]).await.unwrap();
    fs::rename(&here, &away).unwrap();
    assert_eq!(store.load(co_value.id).await.unwrap().unwrap().sessions[0].count, 1);
}
