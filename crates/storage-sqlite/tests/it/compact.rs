//! Compacting a file.

use std::fs;
use std::path::Path;

use downbeat_protocol::SessionCounts;
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Storage, StorageError};
use downbeat_storage_sqlite::{SqliteOptions, SqliteSchema, SqliteStorage};

const CO_VALUES: u64 = 200;

/// A file whose content was mostly erased.
async fn store(file: &Path, schema: SqliteSchema) {
    let options = SqliteOptions::default().with_schema(schema);
    let store = SqliteStorage::open_with(file, options).unwrap();
    for number in 0..CO_VALUES {
        let one = CoValueFixture::new(number);
        store.append(vec![one.create(vec![Author::new(number).write(3, 5_000)])]).await.unwrap();
        if number % 10 > 0 {
            let deletion = Author::deleting(number).delete(one.id);
            store.append(vec![one.tombstone(deletion)]).await.unwrap();
            while store.erase(one.id).await.unwrap().more {}
        }
    }
    store.close().await.unwrap();
}

async fn check(file: &Path, schema: SqliteSchema) {
    let store = SqliteStorage::open(file).unwrap();
    assert_eq!(store.schema(), schema);
    assert_eq!(store.count().await.unwrap(), CO_VALUES);
    for number in 0..CO_VALUES {
        let id = CoValueFixture::new(number).id;
        assert_eq!(store.load(id).await.unwrap().unwrap().deleted, number % 10 > 0);
        let runs = store.read(id, &SessionCounts::new(), usize::MAX).await.unwrap();
        let count: usize = runs.iter().map(|run| run.transactions.len()).sum();
        assert_eq!(count, if number % 10 > 0 { 1 } else { 3 });
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn both_schemas_become_smaller_and_keep_their_content() {
    for schema in [SqliteSchema::Reference, SqliteSchema::Native] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("storage.db");
        store(&file, schema).await;
        let len = fs::metadata(&file).unwrap().len();
        let compacted = SqliteStorage::compact(&file).unwrap();
        assert_eq!(compacted.bytes_before, len);
        assert_eq!(compacted.bytes_after, fs::metadata(&file).unwrap().len());
        assert!(compacted.bytes_after < 700_000, "{schema:?}: {compacted:?}");
        check(&file, schema).await;
    }
}

#[tokio::test]
async fn an_open_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("storage.db");
    store(&file, SqliteSchema::Native).await;
    let open = SqliteStorage::open(&file).unwrap();
    assert_eq!(open.count().await.unwrap(), CO_VALUES);
    let error = SqliteStorage::compact(&file).unwrap_err();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    open.close().await.unwrap();
    SqliteStorage::compact(&file).unwrap();
}

#[tokio::test]
async fn other_files_and_damaged_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("storage.db");
    let error = SqliteStorage::compact(&file).unwrap_err();
    assert!(matches!(error, StorageError::Io { .. }), "{error}");
    assert!(!file.exists());
    for content in ["", "something else, which is no database"] {
        fs::write(&file, content).unwrap();
        let error = SqliteStorage::compact(&file).unwrap_err();
        assert!(matches!(error, StorageError::NotAStore { .. }), "{error}");
    }
    fs::remove_file(&file).unwrap();
    store(&file, SqliteSchema::Native).await;
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0xa5);
    fs::write(&file, &bytes).unwrap();
    let error = SqliteStorage::compact(&file).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt(_)), "{error}");
}
