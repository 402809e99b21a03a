use downbeat_protocol::{SessionContent, SessionCounts};
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Outcome, SessionOutcome, Storage};
use downbeat_storage_sqlite::SqliteStorage;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::reference::{ReferenceFile, VERSIONS, columns, path_in, stored};

/// Checks that a CoValue holds the log of this author.
pub(crate) async fn assert_holds(store: &SqliteStorage, id: &CoValueFixture, author: &Author) {
    let found = store.load(id.id).await.unwrap().expect("the CoValue is stored");
    assert_eq!(found.header, id.header);
    let head = &found.sessions[0];
    assert_eq!((&head.session, head.count), (&author.session, author.count()));
    assert_eq!(head.last_signature, author.signature());
    let runs = store.read(id.id, &SessionCounts::new(), 1 << 30).await.unwrap();
    let log: Vec<_> = runs.iter().flat_map(|run| run.transactions.clone()).collect();
    assert_eq!(log, author.log);
}

fn closed(file: ReferenceFile) -> TempDir {
    file.connection.close().unwrap();
    file.directory
}

#[tokio::test]
async fn a_file_of_any_version_is_served_and_gone_on_with() {
    for version in VERSIONS {
        let file = ReferenceFile::new(version);
        let (co_value, mut author) = stored(&file, 1);
        let (other, mut others) = stored(&file, 2);
        let directory = closed(file);

        let store = SqliteStorage::open(path_in(&directory)).unwrap();
        assert_holds(&store, &co_value, &author).await;
        assert_holds(&store, &other, &others).await;
        let stats = store.stats().await.unwrap();
        assert_eq!((stats.co_values, stats.sessions, stats.transactions), (2, 2, 12));
        for len in [20, 200_000, 20] {
            let batch = vec![
                co_value.extend(vec![author.write(1, len)]),
                other.create(vec![others.write(2, len)]),
            ];
            let applied = Outcome::Applied(vec![SessionOutcome::Applied]);
            assert_eq!(store.append(batch).await.unwrap(), [applied.clone(), applied]);
        }
        store.close().await.unwrap();

        let store = SqliteStorage::open(path_in(&directory)).unwrap();
        assert_holds(&store, &co_value, &author).await;
        assert_holds(&store, &other, &others).await;
        assert_eq!(store.stats().await.unwrap().transactions, 21, "from version {version}");
    }
}

#[tokio::test]
async fn a_file_of_any_version_gets_the_newest_tables() {
    let newest = ReferenceFile::new(7);
    let expected = newest.columns();
    let is_ours = |column: &String| column.contains("downbeat");
    for version in VERSIONS {
        let directory = closed(ReferenceFile::new(version));
        SqliteStorage::open(path_in(&directory)).unwrap().close().await.unwrap();
        let connection = Connection::open(path_in(&directory)).unwrap();
        let found: Vec<_> =
            columns(&connection).into_iter().filter(|column| !is_ours(column)).collect();
        assert_eq!(found, expected, "from version {version}");
        let version: u32 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 7);
    }
    let directory = tempfile::tempdir().unwrap();
    SqliteStorage::open(path_in(&directory)).unwrap().close().await.unwrap();
    let fresh = columns(&Connection::open(path_in(&directory)).unwrap());
    let fresh: Vec<_> = fresh.into_iter().filter(|column| !is_ours(column)).collect();
    assert_eq!(fresh, expected, "of a new file");
}

#[tokio::test]
async fn an_interrupted_migration_goes_on() {
    // The reference commits each step and its number separately, so a file may be ahead of its
    // number.
    for (version, number) in [(3, 2), (4, 2), (6, 5), (7, 6), (7, 3)] {
        let file = ReferenceFile::new(version);
        let (co_value, author) = stored(&file, 1);
        file.connection.pragma_update(None, "user_version", number).unwrap();
        let directory = closed(file);
        let store = SqliteStorage::open(path_in(&directory)).unwrap();
        assert_holds(&store, &co_value, &author).await;
    }
}

#[tokio::test]
async fn a_new_file_of_the_reference_that_stopped_at_its_first_step_is_not_renumbered() {
    let file = ReferenceFile::new(2);
    let (co_value, author) = stored(&file, 1);
    file.connection.pragma_update(None, "user_version", 1).unwrap();
    let directory = closed(file);
    let store = SqliteStorage::open(path_in(&directory)).unwrap();
    assert_holds(&store, &co_value, &author).await;
}

#[tokio::test]
async fn notes_of_the_reference_are_taken_over() {
    let file = ReferenceFile::new(6);
    let (pending, _) = stored(&file, 1);
    let (done, _) = stored(&file, 2);
    let (kept, author) = stored(&file, 3);
    let (id, unknown) = (kept.id, CoValueFixture::new(4).id);
    let long = "x".repeat(300);
    file.connection
        .execute_batch(&format!(
            "INSERT INTO deletedCoValues VALUES ('{}', 0), ('{}', 1), ('{unknown}', 0);
            INSERT INTO unsynced_covalues (co_value_id, peer_id)
                VALUES ('{id}', 'b'), ('{id}', 'a'), ('{id}', ''), ('{id}', '{long}');
            INSERT INTO storageReconciliationLocks VALUES ('lock#a', 'session', 1, 2, 3, NULL);",
            pending.id, done.id
        ))
        .unwrap();
    let mut deleter = Author::deleting(1);
    file.store(&pending, &SessionContent { ..deleter.write(1, 20) });
    let directory = closed(file);

    let store = SqliteStorage::open(path_in(&directory)).unwrap();
    for co_value in [&pending, &done] {
        assert!(store.load(co_value.id).await.unwrap().unwrap().deleted);
    }
    assert_holds(&store, &pending, &deleter).await;
    assert_holds(&store, &kept, &author).await;
    assert_eq!(store.erasable(None, 10).await.unwrap(), [pending.id]);
    assert_eq!(store.stats().await.unwrap().deleted, 2);
    while store.erase(pending.id).await.unwrap().more {}
    assert_holds(&store, &pending, &deleter).await;
    let unsynced = store.unsynced(None, 10).await.unwrap();
    let names: Vec<_> = unsynced.iter().map(|entry| entry.upstream.as_str()).collect();
    assert_eq!(names, ["a", "b"], "names that no upstream can have are left out");
    store.close().await.unwrap();

    let connection = Connection::open(path_in(&directory)).unwrap();
    let count = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT COUNT(*) FROM unsynced_covalues"), 4, "but not removed");
    assert_eq!(count("SELECT lastProcessedOffset FROM storageReconciliationLocks"), 3);
    assert_eq!(count("SELECT COUNT(*) FROM deletedCoValues WHERE status = 1"), 2);
}
