//! Files with Downbeat's own tables.

use std::fs;
use std::path::Path;
use std::time::Duration;

use downbeat_protocol::SessionCounts;
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{
    Outcome, SessionOutcome, Storage, StorageError, Unsynced, UnsyncedUpdate, UpstreamName,
};
use downbeat_storage_sqlite::{SqliteOptions, SqliteSchema, SqliteStorage};
use rusqlite::Connection;

use crate::migration::assert_holds;
use crate::reference::path_in;

/// Opens a store whose file gets Downbeat's tables if it is new.
pub(crate) fn open_native(file: &Path) -> Result<SqliteStorage, StorageError> {
    SqliteStorage::open_with(file, SqliteOptions::default().with_schema(SqliteSchema::Native))
}

fn pragma(file: &Path, name: &str) -> i64 {
    let connection = Connection::open(file).unwrap();
    connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
}

fn set_pragma(file: &Path, name: &str, value: i64) {
    let connection = Connection::open(file).unwrap();
    connection.pragma_update(None, name, value).unwrap();
    connection.close().unwrap();
}

#[tokio::test]
async fn an_existing_file_keeps_its_schema_whatever_the_options_say() {
    for schema in crate::SCHEMAS {
        let dir = tempfile::tempdir().unwrap();
        let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
        for wanted in [schema, SqliteSchema::Native, SqliteSchema::Reference] {
            let options = SqliteOptions::default().with_schema(wanted);
            let store = SqliteStorage::open_with(path_in(&dir), options).unwrap();
            assert_eq!(store.schema(), schema);
            store.append(vec![co_value.create(vec![author.write(1, 20)])]).await.unwrap();
            assert_holds(&store, &co_value, &author).await;
            store.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_schema_of_a_file_is_known_without_opening_it_as_a_store() {
    for schema in crate::SCHEMAS {
        let dir = tempfile::tempdir().unwrap();
        let file = path_in(&dir);
        assert_eq!(SqliteSchema::of_file(&file).unwrap(), None);
        assert!(!file.exists());
        fs::write(&file, "").unwrap();
        assert_eq!(SqliteSchema::of_file(&file).unwrap(), None);
        assert_eq!(fs::metadata(&file).unwrap().len(), 0);
        let store =
            SqliteStorage::open_with(&file, SqliteOptions::default().with_schema(schema)).unwrap();
        // The tables may still be in the log beside the file.
        assert_eq!(SqliteSchema::of_file(&file).unwrap(), Some(schema));
        store.close().await.unwrap();
        let before = fs::read(&file).unwrap();
        assert_eq!(SqliteSchema::of_file(&file).unwrap(), Some(schema));
        assert_eq!(fs::read(&file).unwrap(), before);
        fs::write(&file, "no database, but long enough to be looked at as one".repeat(20)).unwrap();
        let error = SqliteSchema::of_file(&file).unwrap_err();
        assert!(matches!(error, StorageError::NotAStore { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_numbers_of_a_file_are_the_documented_ones() {
    let dir = tempfile::tempdir().unwrap();
    open_native(&path_in(&dir)).unwrap().close().await.unwrap();
    for (name, value) in
        [("application_id", 0x446e_6274), ("user_version", 1_001), ("page_size", 2_048)]
    {
        assert_eq!(pragma(&path_in(&dir), name), value, "{name}");
    }
}

#[tokio::test]
async fn a_newer_version_is_refused_with_both_numbers_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    open_native(&path_in(&dir)).unwrap().close().await.unwrap();
    set_pragma(&path_in(&dir), "user_version", 1_002);
    let before = fs::read(path_in(&dir)).unwrap();
    let error = open_native(&path_in(&dir)).unwrap_err();
    assert!(matches!(error, StorageError::NewerFormat { found: 2, supported: 1, .. }), "{error:?}");
    assert_eq!(fs::read(path_in(&dir)).unwrap(), before);
}

#[tokio::test]
async fn a_version_that_cannot_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open_native(&path_in(&dir)).unwrap().close().await.unwrap();
    for version in [0, 7, 1_000, -1] {
        set_pragma(&path_in(&dir), "user_version", version);
        let error = open_native(&path_in(&dir)).unwrap_err();
        assert!(matches!(error, StorageError::NotAStore { .. }), "{version}: {error:?}");
    }
}

/// An older version of this program knows the tables of the reference only. It takes the file for
/// one of a newer version, and so does the reference.
#[tokio::test]
async fn a_reader_of_the_references_tables_takes_the_file_for_a_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    open_native(&path_in(&dir)).unwrap().close().await.unwrap();
    set_pragma(&path_in(&dir), "application_id", 0);
    let error = SqliteStorage::open(path_in(&dir)).unwrap_err();
    assert!(matches!(error, StorageError::NewerFormat { found: 1_001, .. }), "{error:?}");
}

#[tokio::test]
async fn what_another_process_writes_is_seen_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let stores = [(); 2].map(|()| open_native(&path_in(&dir)).unwrap());
    let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
    let late = co_value.create(vec![author.clone().write(1, 20)]);
    for store in stores.iter().cycle().take(6) {
        store.append(vec![co_value.create(vec![author.write(2, 20)])]).await.unwrap();
        let number = author.count();
        let other = CoValueFixture::new(number);
        store.append(vec![other.create(vec![Author::new(number).write(1, 20)])]).await.unwrap();
    }
    for store in &stores {
        assert_holds(store, &co_value, &author).await;
        let conflict = Outcome::Applied(vec![SessionOutcome::Conflict { stored: 12 }]);
        assert_eq!(store.append(vec![late.clone()]).await.unwrap(), [conflict]);
        let stats = store.stats().await.unwrap();
        assert_eq!((stats.co_values, stats.sessions, stats.transactions), (7, 7, 18));
    }
}

#[tokio::test]
async fn small_extensions_share_rows_and_can_be_read_from_each_position() {
    let dir = tempfile::tempdir().unwrap();
    let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
    // The long one goes into the log by itself, between small ones.
    for len in [20; 30].into_iter().chain([5_000]).chain([20; 30]) {
        let store = open_native(&path_in(&dir)).unwrap();
        store.append(vec![co_value.create(vec![author.write(1, len)])]).await.unwrap();
        assert_holds(&store, &co_value, &author).await;
    }
    let store = open_native(&path_in(&dir)).unwrap();
    for position in 0..author.count() {
        let have = SessionCounts::from_iter([(author.session.clone(), position)]);
        let runs = store.read(co_value.id, &have, 1).await.unwrap();
        assert_eq!((runs[0].after, runs[0].end()), (position, position + 1), "one extension");
        let runs = store.read(co_value.id, &have, 1 << 20).await.unwrap();
        let read: Vec<_> = runs.into_iter().flat_map(|run| run.transactions).collect();
        assert_eq!(read, author.log[usize::try_from(position).unwrap()..]);
    }
    store.close().await.unwrap();
    let connection = Connection::open(path_in(&dir)).unwrap();
    let rows: i64 = connection.query_row("SELECT COUNT(*) FROM log", [], |row| row.get(0)).unwrap();
    assert!(rows < 15, "{rows} rows for 61 extensions");
}

#[tokio::test]
async fn the_space_of_erased_content_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_native(&path_in(&dir)).unwrap();
    let (co_value, kept) = (CoValueFixture::new(1), CoValueFixture::new(2));
    let mut author = Author::new(1);
    store.append(vec![co_value.create(vec![Author::new(2).write(20, 100_000)])]).await.unwrap();
    store.append(vec![kept.create(vec![author.write(3, 1_000)])]).await.unwrap();
    let tombstone = Author::deleting(3).delete(co_value.id);
    store.append(vec![co_value.tombstone(tombstone)]).await.unwrap();
    while store.erase(co_value.id).await.unwrap().more {}
    let mut free = i64::MAX;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        free = pragma(&path_in(&dir), "freelist_count");
        if free <= pragma(&path_in(&dir), "page_count") / 8 {
            break;
        }
    }
    assert!(free < 10, "{free} pages are free");
    assert_holds(&store, &kept, &author).await;
    assert_eq!(store.check_pages().await.unwrap(), Vec::<String>::new());
    store.close().await.unwrap();
    assert!(fs::metadata(path_in(&dir)).unwrap().len() < 100_000);
}

#[tokio::test]
async fn a_damaged_note_is_left_out_and_the_others_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_native(&path_in(&dir)).unwrap();
    let note = |number| Unsynced {
        id: CoValueFixture::new(number).id,
        upstream: UpstreamName::new("wss://one.example").unwrap(),
    };
    let updates = (0..4).map(|number| UnsyncedUpdate { entry: note(number), synced: false });
    store.track_unsynced(updates.collect()).await.unwrap();
    store.close().await.unwrap();
    let mut left: Vec<_> = (0..4).map(note).collect();
    left.sort();
    // The damaged id and name could be those of another note.
    for (place, change) in [(3, "peer_id = 'wss://ono.example'"), (1, "co_value_id = ?1 || 'x'")] {
        let id = left.remove(place).id;
        let connection = Connection::open(path_in(&dir)).unwrap();
        let update = format!("UPDATE unsynced_covalues SET {change} WHERE co_value_id = ?1");
        assert_eq!(connection.execute(&update, [id.as_str()]).unwrap(), 1);
        drop(connection);
        let store = open_native(&path_in(&dir)).unwrap();
        assert_eq!(store.unsynced(None, 10).await.unwrap(), left, "{change}");
        // Pages are full all the same, because a short one would end the list.
        assert_eq!(store.unsynced(None, 2).await.unwrap(), left[..2], "{change}");
        store.close().await.unwrap();
    }
}
