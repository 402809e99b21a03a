use std::fs;
use std::path::Path;

use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Storage, StorageError};
use downbeat_storage_sqlite::SqliteStorage;
use rusqlite::Connection;

use crate::migration::assert_holds;
use crate::reference::path_in;

/// The error of opening, checked to name the file.
fn refused(file: &Path) -> StorageError {
    let error = SqliteStorage::open(file).expect_err("the file is no store that can be opened");
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(error.to_string().contains(name), "{error}");
    error
}

#[tokio::test]
async fn a_missing_file_is_created_with_the_directories_above_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a/b/storage.db");
    let store = SqliteStorage::open(&file).unwrap();
    assert_eq!(store.count().await.unwrap(), 0);
    assert!(file.is_file());
}

#[tokio::test]
async fn an_empty_file_becomes_a_store() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(path_in(&dir), "").unwrap();
    assert_eq!(SqliteStorage::open(path_in(&dir)).unwrap().count().await.unwrap(), 0);
}

#[tokio::test]
async fn names_that_mean_something_to_sqlite_are_files_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for name in [":memory:", "file:a?mode=memory"] {
        let file = dir.path().join(name);
        SqliteStorage::open(&file).unwrap().close().await.unwrap();
        assert!(file.is_file(), "{name}");
    }
}

#[tokio::test]
async fn only_the_reserve_is_left_beside_the_file_after_closing() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStorage::open(path_in(&dir)).unwrap();
    let content = Author::new(1).write(1, 20);
    store.append(vec![CoValueFixture::new(1).create(vec![content])]).await.unwrap();
    assert_eq!(store.stats().await.unwrap().transactions, 1);
    store.close().await.unwrap();
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["storage.db", "storage.db-reserve"]);
}

#[test]
fn something_that_is_no_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = "hello, this is a letter, not a database. ".repeat(200);
    fs::write(path_in(&dir), &text).unwrap();
    let error = refused(&path_in(&dir));
    assert!(matches!(error, StorageError::NotAStore { .. }), "{error:?}");
    assert_eq!(fs::read_to_string(path_in(&dir)).unwrap(), text);
    let error = refused(dir.path());
    assert!(matches!(error, StorageError::NotAStore { .. }), "{error:?}");
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    for tables in [
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)",
        "CREATE TABLE coValues (id TEXT); CREATE TABLE sessions (id TEXT);
            CREATE TABLE transactions (id TEXT); PRAGMA user_version = 3",
    ] {
        let dir = tempfile::tempdir().unwrap();
        Connection::open(path_in(&dir)).unwrap().execute_batch(tables).unwrap();
        let before = fs::read(path_in(&dir)).unwrap();
        let error = refused(&path_in(&dir));
        assert!(matches!(error, StorageError::NotAStore { .. }), "{error:?}");
        assert_eq!(fs::read(path_in(&dir)).unwrap(), before);
    }
}

#[tokio::test]
async fn a_newer_version_is_refused_with_both_numbers() {
    let dir = tempfile::tempdir().unwrap();
    SqliteStorage::open(path_in(&dir)).unwrap().close().await.unwrap();
    let connection = Connection::open(path_in(&dir)).unwrap();
    connection.pragma_update(None, "user_version", 8).unwrap();
    connection.close().unwrap();
    let error = refused(&path_in(&dir));
    assert!(matches!(error, StorageError::NewerFormat { found: 8, supported: 7, .. }), "{error:?}");
}

#[test]
fn a_file_that_cannot_be_created_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "hello").unwrap();
    let error = SqliteStorage::open(dir.path().join("file/storage.db")).unwrap_err();
    assert!(matches!(error, StorageError::Io { .. }), "{error:?}");
}

#[tokio::test]
async fn our_own_tables_can_be_dropped_at_any_time() {
    let dir = tempfile::tempdir().unwrap();
    let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
    for _ in 0..3 {
        let store = SqliteStorage::open(path_in(&dir)).unwrap();
        for len in [20, 60_000, 20] {
            store.append(vec![co_value.create(vec![author.write(2, len)])]).await.unwrap();
        }
        assert_holds(&store, &co_value, &author).await;
        assert_eq!(store.stats().await.unwrap().transactions, author.count());
        store.close().await.unwrap();
        let drop = "DROP TABLE downbeat_extensions; DROP TABLE downbeat_totals";
        Connection::open(path_in(&dir)).unwrap().execute_batch(drop).unwrap();
    }
    let store = SqliteStorage::open(path_in(&dir)).unwrap();
    assert_holds(&store, &co_value, &author).await;
    assert_eq!(store.stats().await.unwrap().transactions, author.count());
}
