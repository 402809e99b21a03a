use std::error::Error;
use std::fs;
use std::path::Path;

use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Storage, StorageError};
use downbeat_storage_sled::SledStorage;

/// The error of opening, checked to name the directory.
fn refused(dir: &Path) -> StorageError {
    let error = SledStorage::open(dir).expect_err("the directory is no store that can be opened");
    assert!(error.to_string().contains(&dir.display().to_string()), "{error}");
    error
}

#[tokio::test]
async fn a_missing_directory_is_created_with_those_above_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let store = SledStorage::open(&path).unwrap();
    assert_eq!(store.count().await.unwrap(), 0);
    assert!(path.join("format").is_file());
}

#[tokio::test]
async fn the_root_of_a_file_system_counts_as_empty() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    SledStorage::open(dir.path()).unwrap();
}

#[tokio::test]
async fn an_interrupted_creation_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    drop(SledStorage::open(dir.path()).unwrap());
    fs::rename(dir.path().join("format"), dir.path().join("format.unfinished")).unwrap();
    drop(SledStorage::open(dir.path()).unwrap());
    assert!(dir.path().join("format").is_file());
}

/// The state after a process died while sled was writing a snapshot.
#[tokio::test]
async fn an_interrupted_snapshot_does_not_keep_a_store_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    for incomplete in [&b""[..], b"some bytes of it"] {
        let store = SledStorage::open(dir.path()).unwrap();
        store.append(vec![co_value.create(vec![author.write(1, 20)])]).await.unwrap();
        store.close().await.unwrap();
        let snapshot = dir.path().join("snap.7FFFFFFFFFFFFFFF.generating");
        fs::write(&snapshot, incomplete).unwrap();
        let store = SledStorage::open(dir.path()).unwrap();
        let stored = store.load(co_value.id).await.unwrap().unwrap();
        assert_eq!(stored.sessions[0].count, author.count());
        assert!(!snapshot.exists());
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_store_in_use_is_refused_until_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStorage::open(dir.path()).unwrap();
    let error = refused(dir.path());
    assert!(matches!(error, StorageError::Locked { .. }), "{error:?}");
    store.close().await.unwrap();
    SledStorage::open(dir.path()).unwrap();
}

#[test]
fn a_directory_of_other_files_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("letter.txt"), "hello").unwrap();
    let error = refused(dir.path());
    assert!(matches!(error, StorageError::NotAStore { .. }), "{error:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_directory_with_another_programs_format_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for text in [&b"something else 1\n"[..], b"downbeat-storage-sled\n", b"\xff\xfe"] {
        fs::write(dir.path().join("format"), text).unwrap();
        let error = refused(dir.path());
        assert!(matches!(error, StorageError::NotAStore { .. }), "{error:?}");
    }
}

#[test]
fn a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "hello").unwrap();
    assert!(matches!(refused(&path), StorageError::NotAStore { .. }));
}

#[test]
fn a_directory_that_cannot_be_created_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "hello").unwrap();
    let error = refused(&dir.path().join("file/store"));
    assert!(matches!(error, StorageError::Io { .. }), "{error:?}");
    assert!(error.source().is_some());
}

#[test]
fn a_newer_format_is_refused_with_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    drop(SledStorage::open(dir.path()).unwrap());
    fs::write(dir.path().join("format"), "downbeat-storage-sled 2\n").unwrap();
    let error = refused(dir.path());
    assert!(matches!(error, StorageError::NewerFormat { found: 2, supported: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn a_store_without_its_log_is_refused_and_not_created_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStorage::open(dir.path()).unwrap();
    let content = Author::new(1).write(1, 20);
    store.append(vec![CoValueFixture::new(1).create(vec![content])]).await.unwrap();
    store.close().await.unwrap();
    let log = dir.path().join("db");

    fs::write(&log, "").unwrap();
    let error = refused(dir.path());
    assert!(matches!(error, StorageError::Corrupt(_)), "{error:?}");
    fs::remove_file(&log).unwrap();
    let error = refused(dir.path());
    assert!(matches!(error, StorageError::Corrupt(_)), "{error:?}");
    assert!(!log.exists());
}
