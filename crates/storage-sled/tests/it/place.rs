//! A store that is moved or deleted while it is open.

use std::fs;

use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Storage, StorageError};
use downbeat_storage_sled::SledStorage;

#[tokio::test]
async fn nothing_is_stored_while_the_store_is_moved_away() {
    let dir = tempfile::tempdir().unwrap();
    let (here, away) = (dir.path().join("store"), dir.path().join("away"));
    let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
    let store = SledStorage::open(&here).unwrap();
    store.append(vec![co_value.create(vec![author.write(1, 20)])]).await.unwrap();
    store.check().await.unwrap();

    fs::rename(&here, &away).unwrap();
    let late = vec![co_value.extend(vec![author.write(1, 20)])];
    for error in [store.check().await.unwrap_err(), store.append(late.clone()).await.unwrap_err()] {
        assert!(matches!(error, StorageError::Gone { .. }), "{error:?}");
        assert!(error.to_string().contains(&here.display().to_string()), "{error}");
    }
    assert_eq!(store.load(co_value.id).await.unwrap().unwrap().sessions[0].count, 1);

    drop(SledStorage::open(&here).unwrap());
    let error = store.append(late.clone()).await.unwrap_err();
    assert!(error.to_string().contains("another file"), "{error}");
    fs::remove_dir_all(&here).unwrap();

    fs::rename(&away, &here).unwrap();
    store.check().await.unwrap();
    assert!(store.append(late).await.unwrap()[0].is_complete());
    store.close().await.unwrap();
    let store = SledStorage::open(&here).unwrap();
    assert_eq!(store.load(co_value.id).await.unwrap().unwrap().sessions[0].count, 2);
}

#[tokio::test]
async fn nothing_is_stored_once_the_store_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("store");
    let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
    let store = SledStorage::open(&here).unwrap();
    store.append(vec![CoValueFixture::new(2).create(Vec::new())]).await.unwrap();
    fs::remove_dir_all(&here).unwrap();
    let error = store.append(vec![co_value.create(vec![author.write(1, 20)])]).await.unwrap_err();
    assert!(matches!(error, StorageError::Gone { .. }), "{error:?}");
}
