//! Another process that writes to the file, while a store has it open or in between.

use downbeat_protocol::SessionCounts;
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Outcome, SessionOutcome, Storage, StorageError};
use downbeat_storage_sqlite::{SqliteOptions, SqliteStorage, WriteLock};
use rusqlite::params;

use crate::migration::assert_holds;
use crate::reference::{ReferenceFile, path_in, store as store_beside};

#[tokio::test]
async fn what_another_process_writes_is_seen_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStorage::open(path_in(&dir)).unwrap();
    let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
    store.append(vec![co_value.create(vec![author.write(2, 20)])]).await.unwrap();
    assert_eq!(store.stats().await.unwrap().transactions, 2);

    let other = ReferenceFile::beside(&path_in(&dir));
    let before = author.clone();
    store_beside(&other, 7, &co_value, &author.write(3, 50_000));
    let created = CoValueFixture::new(2);
    let mut others = Author::new(2);
    store_beside(&other, 7, &created, &others.write(1, 20));
    assert_holds(&store, &co_value, &author).await;

    let late = co_value.extend(vec![before.clone().write(1, 20)]);
    let conflict = Outcome::Applied(vec![SessionOutcome::Conflict { stored: 5 }]);
    assert_eq!(store.append(vec![late]).await.unwrap(), [conflict]);
    store.append(vec![co_value.extend(vec![author.write(1, 20)])]).await.unwrap();
    assert_holds(&store, &co_value, &author).await;
    assert_holds(&store, &created, &others).await;
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.co_values, stats.sessions, stats.transactions), (2, 2, 7));
    assert_eq!(store.count().await.unwrap(), 2);
}

#[tokio::test]
async fn rows_that_an_interrupted_write_left_are_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
    let store = SqliteStorage::open(path_in(&dir)).unwrap();
    store.append(vec![co_value.create(vec![author.write(2, 20)])]).await.unwrap();
    let other = ReferenceFile::beside(&path_in(&dir));
    for idx in [2, 3, 9] {
        let insert = "INSERT INTO transactions SELECT rowID, ?1, 'orphan' FROM sessions";
        other.execute(insert, params![idx]).unwrap();
        let insert = "INSERT INTO signatureAfter SELECT rowID, ?1, lastSignature FROM sessions";
        other.execute(insert, params![idx]).unwrap();
    }
    assert_holds(&store, &co_value, &author).await;
    store.append(vec![co_value.extend(vec![author.write(5, 20)])]).await.unwrap();
    assert_holds(&store, &co_value, &author).await;
    let runs = store.read(co_value.id, &SessionCounts::new(), 1).await.unwrap();
    assert_eq!(runs[0].transactions.len(), 2, "the end of the first extension is known");
    for run in store.read(co_value.id, &SessionCounts::new(), 1 << 20).await.unwrap() {
        assert_eq!(run.end(), 7, "and those are none");
    }
}

#[tokio::test]
async fn the_row_of_a_session_that_was_erased_may_become_anothers() {
    let dir = tempfile::tempdir().unwrap();
    let (gone, mut author) = (CoValueFixture::new(1), Author::new(1));
    let store = SqliteStorage::open(path_in(&dir)).unwrap();
    for _ in 0..5 {
        store.append(vec![gone.create(vec![author.write(2, 20)])]).await.unwrap();
    }
    // Like the reference, which does not know the rows that it leaves.
    let other = ReferenceFile::beside(&path_in(&dir));
    other
        .execute_batch(&format!(
            "DELETE FROM transactions; DELETE FROM signatureAfter; DELETE FROM sessions;
            INSERT INTO deletedCoValues VALUES ('{}', 1);",
            gone.id
        ))
        .unwrap();
    let (next, mut nexts) = (CoValueFixture::new(2), Author::new(2));
    store_beside(&other, 7, &next, &nexts.write(3, 20));
    assert_holds(&store, &next, &nexts).await;
    for count in [4, 1, 2] {
        store.append(vec![next.extend(vec![nexts.write(count, 20)])]).await.unwrap();
        assert_holds(&store, &next, &nexts).await;
    }
    for position in 0..nexts.count() {
        let have = SessionCounts::from_iter([(nexts.session.clone(), position)]);
        let runs = store.read(next.id, &have, 1 << 20).await.unwrap();
        assert_eq!(runs.last().unwrap().end(), nexts.count());
    }
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.co_values, stats.deleted, stats.transactions), (2, 1, 10));
}

#[tokio::test]
async fn an_exclusive_store_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("new/storage.db");
    let open = |exclusive| {
        SqliteStorage::open_with(&file, SqliteOptions::default().with_exclusive(exclusive))
    };
    let store = open(true).unwrap();
    for _ in 0..2 {
        let error = open(true).unwrap_err();
        assert!(matches!(&error, StorageError::Locked { path } if *path == file), "{error}");
    }
    drop(open(false).unwrap());
    store.close().await.unwrap();
    let next = open(true).unwrap();
    assert!(matches!(open(true), Err(StorageError::Locked { .. })));
    drop(next);
    open(true).unwrap();
}

#[tokio::test]
async fn a_locked_file_can_be_read_and_not_written_until_the_lock_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStorage::open(path_in(&dir)).unwrap();
    let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
    store.append(vec![co_value.create(vec![author.write(2, 20)])]).await.unwrap();
    let lock = WriteLock::acquire(path_in(&dir)).unwrap();
    assert_holds(&store, &co_value, &author).await;
    // Takes as long as a writer waits for another.
    let more = vec![co_value.extend(vec![author.write(1, 20)])];
    let error = store.append(more.clone()).await.unwrap_err();
    assert!(matches!(error, StorageError::Locked { .. }), "{error:?}");
    drop(lock);
    store.append(more).await.unwrap();
    assert_holds(&store, &co_value, &author).await;
}

#[tokio::test]
async fn a_file_is_unused_once_every_store_of_it_is_closed() {
    for schema in crate::SCHEMAS {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions::default().with_schema(schema);
        let stores =
            [(); 2].map(|()| SqliteStorage::open_with(path_in(&dir), options.clone()).unwrap());
        for store in stores {
            let error = WriteLock::require_unused(path_in(&dir)).unwrap_err();
            assert!(matches!(error, StorageError::Locked { .. }), "{error:?}");
            assert!(store.check().await.is_ok());
            store.close().await.unwrap();
        }
        WriteLock::require_unused(path_in(&dir)).unwrap();
        SqliteStorage::open(path_in(&dir)).unwrap().close().await.unwrap();
    }
}
