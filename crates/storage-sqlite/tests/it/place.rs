//! A store that is moved or deleted while it is open.

use std::fs;

use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Storage, StorageError};
use downbeat_storage_sqlite::SqliteStorage;

#[tokio::test]
async fn nothing_is_stored_while_the_store_is_moved_away() {
    let dir = tempfile::tempdir().unwrap();
    let (here, away) = (dir.path().join("store"), dir.path().join("away"));
    let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
    let store = SqliteStorage::open(here.join("storage.db")).unwrap();
    store.append(vec![co_value.create(vec![author.write(1, 20)])]).await.unwrap();
    store.check().await.unwrap();
    fs::rename(&here, &away).unwrap();
    let late = vec![co_value.extend(vec![author.write(1, 20)])];
    for error in [store.check().await.unwrap_err(), store.append(late.clone()).await.unwrap_err()] {
        assert!(matches!(error, StorageError::Gone { .. }), "{error:?}");
        assert!(error.to_string().contains(&here.display().to_string()), "{error}");
    }
    // A reading thread that has the file open goes on. One that has not opens no other.
    match store.load(co_value.id).await {
        Ok(stored) => assert_eq!(stored.unwrap().sessions[0].count, 1),
        Err(error) => assert!(matches!(error, StorageError::Gone { .. }), "{error:?}"),
    }

    drop(SqliteStorage::open(here.join("storage.db")).unwrap());
    let error = store.append(late.clone()).await.unwrap_err();
    assert!(error.to_string().contains("another file"), "{error}");
    fs::remove_dir_all(&here).unwrap();

    fs::rename(&away, &here).unwrap();
    store.check().await.unwrap();
    assert!(store.append(late).await.unwrap()[0].is_complete());
    store.close().await.unwrap();
    let store = SqliteStorage::open(here.join("storage.db")).unwrap();
    assert_eq!(store.load(co_value.id).await.unwrap().unwrap().sessions[0].count, 2);
}

#[tokio::test]
async fn nothing_is_stored_once_the_store_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("store");
    let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
    let store = SqliteStorage::open(here.join("storage.db")).unwrap();
    store.append(vec![CoValueFixture::new(2).create(Vec::new())]).await.unwrap();
    fs::remove_dir_all(&here).unwrap();
    let error = store.append(vec![co_value.create(vec![author.write(1, 20)])]).await.unwrap_err();
    assert!(matches!(error, StorageError::Gone { .. }), "{error:?}");
}

/// What is in the log beside the file is not in the file yet.
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
