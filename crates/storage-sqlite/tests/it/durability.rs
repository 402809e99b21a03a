use std::fs;
use std::path::Path;
use std::time::Duration;

use downbeat_protocol::CoValueId;
use downbeat_storage::Storage;
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage_sqlite::{Durability, SqliteOptions, SqliteSchema, SqliteStorage};
use tempfile::TempDir;

use crate::SCHEMAS;
use crate::reference::path_in;

/// A copy of the files in their current state, as a killed process leaves them.
fn image(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["storage.db", "storage.db-wal"] {
        if dir.join(name).exists() {
            fs::copy(dir.join(name), copy.path().join(name)).unwrap();
        }
    }
    copy
}

async fn count_in(image: &TempDir, id: CoValueId) -> u64 {
    let store = SqliteStorage::open(path_in(image)).unwrap();
    let stored = store.load(id).await.unwrap();
    stored.map_or(0, |stored| stored.sessions.iter().map(|session| session.count).sum())
}

#[tokio::test]
async fn what_was_appended_is_in_the_files_when_append_returns() {
    let relaxed = Durability::Relaxed { within: Duration::from_mins(1) };
    let durabilities = [Durability::Flushed, relaxed];
    let cases = SCHEMAS.into_iter().flat_map(|schema| durabilities.map(|one| (schema, one)));
    for (schema, durability) in cases {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions::default().with_durability(durability).with_schema(schema);
        let store = SqliteStorage::open_with(path_in(&dir), options).unwrap();
        let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
        for len in [20, 1_000, 20, 300_000, 20] {
            let content = author.write(1, len);
            store.append(vec![co_value.create(vec![content])]).await.unwrap();
            assert_eq!(count_in(&image(dir.path()), co_value.id).await, author.count());
        }
    }
}

#[tokio::test]
async fn a_log_that_is_torn_at_any_place_leaves_whole_batches() {
    for schema in SCHEMAS {
        torn_at_any_place(schema).await;
    }
}

async fn torn_at_any_place(schema: SqliteSchema) {
    let dir = tempfile::tempdir().unwrap();
    let options = SqliteOptions::default().with_schema(schema);
    let store = SqliteStorage::open_with(path_in(&dir), options).unwrap();
    let (one, two) = (CoValueFixture::new(1), CoValueFixture::new(2));
    let (mut a, mut b) = (Author::new(1), Author::new(2));
    for _ in 0..10 {
        let batch = vec![one.create(vec![a.write(1, 500)]), two.create(vec![b.write(1, 500)])];
        store.append(batch).await.unwrap();
    }
    let log = fs::metadata(dir.path().join("storage.db-wal")).unwrap().len();
    let mut counts = Vec::new();
    for len in (0..=log).step_by(3_001) {
        let image = image(dir.path());
        let file = fs::OpenOptions::new().write(true).open(image.path().join("storage.db-wal"));
        file.unwrap().set_len(len).unwrap();
        let count = count_in(&image, one.id).await;
        assert_eq!(count_in(&image, two.id).await, count, "a log of {len} bytes");
        counts.push(count);
    }
    assert!(counts.is_sorted());
    assert_eq!(counts.first(), Some(&0));
    assert!(counts.last() >= Some(&9));
}

/// Erasing does not wait for the disk, so the commit after it must flush both.
#[tokio::test]
async fn content_after_an_erasure_is_in_the_files_when_append_returns() {
    for schema in SCHEMAS {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions::default().with_schema(schema);
        let store = SqliteStorage::open_with(path_in(&dir), options).unwrap();
        let (gone, kept) = (CoValueFixture::new(1), CoValueFixture::new(2));
        store.append(vec![gone.create(vec![Author::new(1).write(3, 500)])]).await.unwrap();
        let tombstone = Author::deleting(3).delete(gone.id);
        store.append(vec![gone.tombstone(tombstone)]).await.unwrap();
        assert!(!store.erase(gone.id).await.unwrap().more);
        store.append(vec![kept.create(vec![Author::new(2).write(2, 500)])]).await.unwrap();
        let image = image(dir.path());
        assert_eq!(count_in(&image, kept.id).await, 2);
        assert_eq!(count_in(&image, gone.id).await, 1);
    }
}
