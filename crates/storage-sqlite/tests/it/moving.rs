//! A store whose files are deleted while it is open.

use std::fs;

use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Storage, StorageError};
use downbeat_storage_sqlite::SqliteStorage;

/// The log beside the file holds content that is not in the file yet.
#[tokio::test]
async fn nothing_is_stored_once_the_log_beside_the_file_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
    let store = SqliteStorage::open(dir.path().join("storage.db")).unwrap();
    store.append(vec![CoValueFixture::new(2).create(Vec::new())]).await.unwrap();
    fs::remove_file(dir.path().join("storage.db-wal")).unwrap();
    let error = store.append(vec![co_value.create(vec![author.write(1, 20)])]).await.unwrap_err();
    assert!(matches!(error, StorageError::Gone { .. }), "{error:?}");
    assert!(store.check().await.is_err());
}
