use std::fs;
use std::path::Path;

use downbeat_protocol::{CoValueId, KnownState, SessionCounts};
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Damage, Outcome, SessionOutcome, Storage, StorageError};
use downbeat_storage_sqlite::SqliteSchema::{self, Native, Reference};
use downbeat_storage_sqlite::{SqliteOptions, SqliteStorage};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::SCHEMAS;
use crate::migration::assert_holds;
use crate::reference::{ReferenceFile, path_in, stored};

/// A new store.
fn create(dir: &TempDir, schema: SqliteSchema) -> SqliteStorage {
    let options = SqliteOptions::default().with_schema(schema);
    SqliteStorage::open_with(path_in(dir), options).unwrap()
}

/// A closed store with two CoValues. Each has several extensions and a checkpoint.
async fn two(schema: SqliteSchema) -> (TempDir, [(CoValueFixture, Author); 2]) {
    let dir = tempfile::tempdir().unwrap();
    let store = create(&dir, schema);
    let mut written = [1, 2].map(|number| (CoValueFixture::new(number), Author::new(number)));
    for (co_value, author) in &mut written {
        for len in [20, 60_000, 60_000, 20, 20] {
            store.append(vec![co_value.create(vec![author.write(2, len)])]).await.unwrap();
        }
    }
    store.close().await.unwrap();
    (dir, written)
}

fn change(dir: &TempDir, statement: &str) {
    let connection = Connection::open(path_in(dir)).unwrap();
    assert!(connection.execute(statement, []).unwrap() > 0, "{statement}");
    connection.close().unwrap();
}

async fn damage_of(store: &SqliteStorage, co_value: &CoValueFixture) -> Option<Damage> {
    let loaded = store.load(co_value.id).await.err();
    let read = store.read(co_value.id, &SessionCounts::new(), 1 << 30).await.err();
    loaded.or(read).map(|error| match error {
        StorageError::Corrupt(damage) => damage,
        other => panic!("{other:?}"),
    })
}

#[tokio::test]
async fn a_row_that_is_not_what_was_written_is_refused_by_the_name_of_its_covalue() {
    let of_reference = [
        "UPDATE coValues SET header = '{' WHERE rowID = 1",
        "UPDATE coValues SET header = replace(header, 'comap', 'colist') WHERE rowID = 1",
        "UPDATE coValues SET header = x'00ff' WHERE rowID = 1",
        "UPDATE sessions SET lastIdx = 9 WHERE coValue = 1",
        "UPDATE sessions SET lastIdx = 8 WHERE coValue = 1",
        "UPDATE sessions SET lastIdx = 11 WHERE coValue = 1",
        "UPDATE sessions SET lastIdx = -1 WHERE coValue = 1",
        "UPDATE sessions SET lastIdx = NULL WHERE coValue = 1",
        "UPDATE sessions SET lastIdx = 'ten' WHERE coValue = 1",
        "UPDATE sessions SET lastSignature = 'signature_z1' WHERE coValue = 1",
        "UPDATE sessions SET lastSignature = NULL WHERE coValue = 1",
        "UPDATE sessions SET sessionID = 'no session' WHERE coValue = 1",
        "UPDATE sessions SET sessionID = replace(sessionID, '_z', '_z2') WHERE coValue = 1",
        "UPDATE transactions SET tx = '{' WHERE ses = 1 AND idx = 3",
        "UPDATE transactions SET tx = '{}' WHERE ses = 1 AND idx = 3",
        "UPDATE transactions SET tx = replace(tx, '00000003', '00000004') WHERE ses = 1 AND idx = 3",
        "UPDATE transactions SET tx = CAST(x'ff' AS TEXT) WHERE ses = 1 AND idx = 3",
        "UPDATE transactions SET tx = 7 WHERE ses = 1 AND idx = 3",
        "DELETE FROM transactions WHERE ses = 1 AND idx = 0",
        "DELETE FROM transactions WHERE ses = 1 AND idx = 4",
        "DELETE FROM transactions WHERE ses = 1 AND idx = 9",
        "UPDATE transactions SET idx = 20 WHERE ses = 1 AND idx = 4",
        "UPDATE signatureAfter SET signature = 'signature_z1' WHERE ses = 1",
        "UPDATE signatureAfter SET signature = 'nonsense' WHERE ses = 1",
        "UPDATE downbeat_extensions SET checksum = checksum + 1 WHERE ses = 1 AND idx = 1",
    ];
    let of_native = [
        "UPDATE coValues SET id = 'co_z1' WHERE rowID = 1",
        "UPDATE coValues SET state = x'00ff' WHERE rowID = 1",
        "UPDATE coValues SET state = (SELECT state FROM coValues WHERE rowID = 2) WHERE rowID = 1",
        "UPDATE coValues SET state = 'text' WHERE rowID = 1",
        "UPDATE coValues SET header = (SELECT header FROM coValues WHERE rowID = 2) WHERE rowID = 1",
        "UPDATE coValues SET header = CAST(replace(header, 'comap', 'colis') AS BLOB) WHERE rowID = 1",
        "UPDATE sessions SET head = (SELECT head FROM sessions WHERE coValue = 2) WHERE coValue = 1",
        "UPDATE sessions SET head = substr(head, 1, 20) WHERE coValue = 1",
        "UPDATE sessions SET sessionID = 'no session' WHERE coValue = 1",
        "UPDATE sessions SET sessionID = replace(sessionID, '_z', '_z2') WHERE coValue = 1",
        "UPDATE sessions SET ses = 2 WHERE coValue = 1",
        "UPDATE sessions SET ses = -1 WHERE coValue = 1",
        "UPDATE sessions SET coValue = 3 WHERE coValue = 1",
        "DELETE FROM sessions WHERE coValue = 1",
        "UPDATE log SET record = substr(record, 1, 20) WHERE place = (1 << 32) + 4",
        "UPDATE log SET record = CAST(replace(record, '00000003', '00000004') AS BLOB)
            WHERE place = (1 << 32) + 4",
        "UPDATE log SET record = (SELECT record FROM log WHERE place = (2 << 32) + 4)
            WHERE place = (1 << 32) + 4",
        "UPDATE log SET place = (1 << 32) + 3 WHERE place = (1 << 32) + 4",
        "UPDATE log SET place = (1 << 32) + 11 WHERE place = (1 << 32) + 6",
        "UPDATE log SET place = (2 << 32) + 3 WHERE place = (1 << 32) + 4",
        "DELETE FROM log WHERE place = (1 << 32) + 2",
        "DELETE FROM log WHERE place = (1 << 32) + 4",
        "DELETE FROM log WHERE place = (1 << 32) + 6",
        "DELETE FROM tails WHERE ses = 1",
        "UPDATE tails SET ses = 3 WHERE ses = 1",
        "UPDATE tails SET record = (SELECT record FROM tails WHERE ses = 2) WHERE ses = 1",
        "UPDATE tails SET record = substr(record, 1, 200) WHERE ses = 1",
        "UPDATE tails SET record = CAST(replace(record, '00000007', '00000008') AS BLOB)
            WHERE ses = 1",
    ];
    let of_reference = of_reference.map(|statement| (Reference, statement));
    for (schema, statement) in of_reference.into_iter().chain(of_native.map(|one| (Native, one))) {
        let (dir, [(damaged, _), (whole, author)]) = two(schema).await;
        change(&dir, statement);
        let store = SqliteStorage::open(path_in(&dir)).unwrap();
        let damage = damage_of(&store, &damaged).await.unwrap_or_else(|| panic!("{statement}"));
        assert_eq!(damage.id(), Some(damaged.id), "{statement}: {damage}");
        assert_holds(&store, &whole, &author).await;
    }
}

/// All ids of a store, page by page, as the tools walk through it.
async fn walk(store: &SqliteStorage) -> Result<Vec<CoValueId>, StorageError> {
    let mut ids = Vec::new();
    loop {
        let page = store.list(ids.last().copied(), 1).await?;
        if page.is_empty() {
            return Ok(ids);
        }
        ids.extend(page);
    }
}

#[tokio::test]
async fn no_value_of_a_column_keeps_the_rest_of_the_file_from_being_read() {
    let totals = (
        "downbeat_totals",
        "row = 1",
        &["coValues", "deleted", "sessions", "transactions", "bytes"][..],
    );
    let of_reference = [
        ("coValues", "rowID = 1", &["id", "header"][..]),
        (
            "sessions",
            "coValue = 1",
            &["coValue", "sessionID", "lastIdx", "lastSignature", "bytesSinceLastSignature"],
        ),
        ("transactions", "ses = 1 AND idx = 3", &["ses", "idx", "tx"]),
        ("signatureAfter", "ses = 1", &["ses", "idx", "signature"]),
        (
            "downbeat_extensions",
            "ses = 1 AND idx = 1",
            &["ses", "idx", "owner", "after", "signature", "checksum"],
        ),
        totals,
    ];
    let of_native = [
        ("coValues", "rowID = 1", &["id", "hash", "state", "header"][..]),
        ("sessions", "coValue = 1", &["coValue", "sessionID", "ses", "head"]),
        ("log", "place = (1 << 32) + 4", &["place", "record"]),
        ("tails", "ses = 1", &["ses", "record"]),
        totals,
    ];
    let values = ["NULL", "''", "'text'", "x'00ff'", "-1", "9223372036854775807", "1e300"];
    for (schema, places) in [(Reference, &of_reference[..]), (Native, &of_native)] {
        let (dir, [(damaged, _), (whole, author)]) = two(schema).await;
        let intact = fs::read(path_in(&dir)).unwrap();
        for (table, place, columns) in places {
            for (column, value) in
                columns.iter().flat_map(|column| values.map(|value| (column, value)))
            {
                fs::write(path_in(&dir), &intact).unwrap();
                let statement = format!("UPDATE {table} SET {column} = {value} WHERE {place}");
                let connection = Connection::open(path_in(&dir)).unwrap();
                // The table itself refuses some values.
                let is_changed = connection.execute(&statement, []).is_ok_and(|rows| rows > 0);
                connection.close().unwrap();
                if !is_changed {
                    continue;
                }
                let store = SqliteStorage::open(path_in(&dir)).unwrap();
                let ids = walk(&store).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
                assert!(ids.contains(&whole.id), "{statement}");
                let count =
                    store.count().await.unwrap_or_else(|error| panic!("{statement}: {error}"));
                assert_eq!(count, 2, "{statement}");
                assert!(store.stats().await.is_ok(), "{statement}");
                assert!(store.check_sessions().await.is_some(), "{statement}");
                // Damage is reported as such, and not as a failure of the disk or a bug.
                let _ = damage_of(&store, &damaged).await;
                assert_holds(&store, &whole, &author).await;
                store.close().await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn the_last_extension_is_checked_wherever_reading_begins() {
    let cases = SCHEMAS.into_iter().flat_map(|schema| [(schema, 1, 2), (schema, 3, 8)]);
    for (schema, extensions, row) in cases {
        let dir = tempfile::tempdir().unwrap();
        let store = create(&dir, schema);
        let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
        for _ in 0..extensions {
            store.append(vec![co_value.create(vec![author.write(3, 20)])]).await.unwrap();
        }
        store.close().await.unwrap();
        let replaced = format!("'0000000{row}', '00000099'");
        let statement = match schema {
            Native => {
                let table = if extensions == 1 { "log" } else { "tails" };
                format!("UPDATE {table} SET record = CAST(replace(record, {replaced}) AS BLOB)")
            }
            _ => format!("UPDATE transactions SET tx = replace(tx, {replaced}) WHERE idx = {row}"),
        };
        change(&dir, &statement);
        let store = SqliteStorage::open(path_in(&dir)).unwrap();
        for position in 0..author.count() {
            let have = SessionCounts::from_iter([(author.session.clone(), position)]);
            let read = store.read(co_value.id, &have, 1 << 20).await;
            assert!(matches!(read, Err(StorageError::Corrupt(_))), "{position}: {read:?}");
        }
    }
}

#[tokio::test]
async fn a_batch_of_reads_leaves_out_what_meets_damage() {
    for schema in SCHEMAS {
        let (dir, [(damaged, _), (whole, author)]) = two(schema).await;
        change(
            &dir,
            match schema {
                Native => "UPDATE log SET record = x'00' WHERE place = (1 << 32) + 4",
                _ => "UPDATE transactions SET tx = '{' WHERE ses = 1 AND idx = 3",
            },
        );
        change(&dir, "UPDATE coValues SET header = '{' WHERE rowID = 1");
        let store = SqliteStorage::open(path_in(&dir)).unwrap();
        let loaded = store.load_many(vec![damaged.id, whole.id, damaged.id]).await;
        assert!(matches!(
            &loaded[..],
            [Err(StorageError::Corrupt(_)), Ok(Some(_)), Err(StorageError::Corrupt(_))]
        ));
        let known = [damaged.id, whole.id, damaged.id].map(KnownState::empty);
        let read = store.read_many(known.to_vec(), 1 << 30).await;
        let [Err(StorageError::Corrupt(_)), Ok(runs), Err(StorageError::Corrupt(_))] = &read[..]
        else {
            panic!("{read:?}")
        };
        assert_eq!(runs.last().unwrap().end(), author.count());
    }
}

#[tokio::test]
async fn what_the_reference_wrote_is_checked_as_far_as_it_can_be() {
    for (statement, is_found) in [
        ("UPDATE transactions SET tx = '{' WHERE ses = 1 AND idx = 3", true),
        ("DELETE FROM transactions WHERE ses = 1 AND idx = 3", true),
        ("UPDATE coValues SET header = replace(header, 'comap', 'colist') WHERE rowID = 1", true),
        ("UPDATE sessions SET lastIdx = 7 WHERE rowID = 1", true),
        // Only the signature shows this.
        ("UPDATE transactions SET tx = replace(tx, '00000003', '00000004') WHERE idx = 3", false),
    ] {
        let file = ReferenceFile::new(7);
        let (co_value, _) = stored(&file, 1);
        assert!(file.connection.execute(statement, []).unwrap() > 0);
        let store = SqliteStorage::open(file.path()).unwrap();
        assert_eq!(damage_of(&store, &co_value).await.is_some(), is_found, "{statement}");
    }
}

#[tokio::test]
async fn a_batch_leaves_out_what_meets_damage() {
    for schema in SCHEMAS {
        let (dir, [(damaged, mut damageds), (whole, mut wholes)]) = two(schema).await;
        change(
            &dir,
            match schema {
                Native => "UPDATE sessions SET head = x'01' WHERE coValue = 1",
                _ => "UPDATE sessions SET lastSignature = 'nonsense' WHERE coValue = 1",
            },
        );
        let store = SqliteStorage::open(path_in(&dir)).unwrap();
        let before = store.stats().await.unwrap();
        let mut new = Author::new(3);
        let batch = vec![
            whole.extend(vec![wholes.write(1, 20)]),
            damaged.extend(vec![new.write(1, 20), damageds.write(1, 20)]),
            whole.extend(vec![wholes.write(2, 20)]),
        ];
        let outcomes = store.append(batch).await.unwrap();
        let applied = Outcome::Applied(vec![SessionOutcome::Applied]);
        assert_eq!((&outcomes[0], &outcomes[2]), (&applied, &applied));
        let Outcome::Damaged(damage) = &outcomes[1] else { panic!("{:?}", outcomes[1]) };
        assert_eq!((damage.id(), damage.session()), (Some(damaged.id), Some(&damageds.session)));
        assert_holds(&store, &whole, &wholes).await;
        let stats = store.stats().await.unwrap();
        assert_eq!(stats.transactions, before.transactions + 3);
        assert_eq!(stats.sessions, before.sessions, "nothing of the damaged write is stored");
    }
}

/// Checks that everything that is served is the written content. Returns the number of refused
/// calls.
async fn served(file: &Path, written: &[(CoValueFixture, Author)]) -> usize {
    let store = match SqliteStorage::open(file) {
        Ok(store) => store,
        Err(error) => {
            assert!(error.to_string().contains("storage.db"), "{error}");
            return 1;
        }
    };
    let mut refused = 0;
    for (co_value, author) in written {
        match store.load(co_value.id).await {
            Ok(Some(stored)) => {
                assert_eq!(stored.header, co_value.header);
                for head in stored.sessions {
                    assert_eq!(head.session, author.session);
                    assert_eq!(head.last_signature, author.signature());
                    assert_eq!(head.count, author.count());
                }
            }
            Ok(None) => refused += 1,
            Err(error) => {
                assert!(
                    error.to_string().contains(co_value.id.as_str())
                        || error.to_string().contains("storage.db"),
                    "{error}"
                );
                refused += 1;
            }
        }
        match store.read(co_value.id, &SessionCounts::new(), 1 << 30).await {
            Ok(runs) => {
                for run in runs {
                    assert_eq!(run.session, author.session);
                    let range = usize::try_from(run.after).unwrap()..;
                    let log = &author.log[range][..run.transactions.len()];
                    assert!(run.transactions == log, "what is served was written");
                }
            }
            Err(_) => refused += 1,
        }
    }
    refused += usize::from(store.list(None, 100).await.is_err());
    refused += usize::from(store.stats().await.is_err());
    refused
}

#[tokio::test]
async fn flipped_bytes_are_refused_or_do_no_harm() {
    for schema in SCHEMAS {
        let (dir, written) = two(schema).await;
        assert_eq!(served(&path_in(&dir), &written).await, 0);
        let whole = fs::read(path_in(&dir)).unwrap();
        let mut refused = 0;
        // Every page, and more positions in the first pages, where the tables begin.
        let places = (0..whole.len()).step_by(2_039).chain((0..8 * 4_096).step_by(257));
        for place in places {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x41;
            let dir = tempfile::tempdir().unwrap();
            fs::write(path_in(&dir), bytes).unwrap();
            refused += served(&path_in(&dir), &written).await;
        }
        assert!(refused > 50, "{refused} were refused");
    }
}

#[tokio::test]
async fn a_truncated_file_is_refused_or_serves_what_is_there() {
    for schema in SCHEMAS {
        let (dir, written) = two(schema).await;
        let whole = fs::read(path_in(&dir)).unwrap();
        for len in (1..whole.len()).step_by(whole.len() / 40) {
            let dir = tempfile::tempdir().unwrap();
            fs::write(path_in(&dir), &whole[..len]).unwrap();
            assert!(served(&path_in(&dir), &written).await > 0, "{len} bytes");
        }
    }
}

#[tokio::test]
async fn pages_can_be_checked() {
    let (dir, _) = two(Reference).await;
    let store = SqliteStorage::open(path_in(&dir)).unwrap();
    assert!(store.check_pages().await.unwrap().is_empty());
    store.close().await.unwrap();
    // An index that has lost an entry.
    let connection = Connection::open(path_in(&dir)).unwrap();
    connection.pragma_update(None, "writable_schema", true).unwrap();
    let schema = "UPDATE sqlite_schema SET sql = replace(sql, '(coValue)', '(lastIdx)')
        WHERE name = 'sessionsByCoValue'";
    connection.execute(schema, []).unwrap();
    connection.close().unwrap();
    let store = SqliteStorage::open(path_in(&dir)).unwrap();
    let found = store.check_pages().await.unwrap();
    assert!(!found.is_empty());
}

/// SQLite keeps no checksums. An index with a changed id does not find the CoValue.
#[tokio::test]
async fn a_covalue_whose_id_is_damaged_anywhere_in_the_file_is_never_missing_in_silence() {
    for schema in SCHEMAS {
        let (dir, [(co_value, _), (other, _)]) = two(schema).await;
        let intact = fs::read(path_in(&dir)).unwrap();
        let id = co_value.id.as_str().as_bytes();
        let places: Vec<usize> =
            (0..intact.len() - id.len()).filter(|start| intact[*start..].starts_with(id)).collect();
        let least = if schema == Native { 2 } else { 3 };
        assert!(places.len() >= least, "the table and the indexes have the id: {places:?}");
        let ending = id[id.len() - 1];
        // No text, and another id.
        let bytes = [!ending, if ending == b'2' { b'3' } else { b'2' }];
        for (place, byte) in places.into_iter().flat_map(|place| bytes.map(|byte| (place, byte))) {
            let mut damaged = intact.clone();
            damaged[place + id.len() - 1] = byte;
            fs::write(path_in(&dir), damaged).unwrap();
            let store = SqliteStorage::open(path_in(&dir)).unwrap();
            match store.load(co_value.id).await {
                Ok(found) => assert!(found.is_some(), "missing in silence, damaged at {place}"),
                Err(StorageError::Corrupt(damage)) => assert_eq!(damage.id(), Some(co_value.id)),
                Err(error) => panic!("{error:?}"),
            }
            let listed = walk(&store).await.unwrap();
            let written = [co_value.id, other.id];
            assert!(listed.iter().all(|id| written.contains(id)), "{listed:?}, {place}");
            assert!(listed.contains(&other.id), "{listed:?}, {place}");
            store.close().await.unwrap();
        }
    }
}

/// The bytes of an index or a table in the file, if it has one page.
fn page_of(dir: &TempDir, index: &str) -> std::ops::Range<usize> {
    let connection = Connection::open(path_in(dir)).unwrap();
    let query = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let page: usize = connection.query_row(query, [index], |row| row.get(0)).unwrap();
    let size: usize = connection.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
    (page - 1) * size..page * size
}

/// A CoValue is served with all of its sessions, and without those of other CoValues.
#[tokio::test]
async fn no_session_is_missing_in_silence_when_an_index_of_sessions_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStorage::open(path_in(&dir)).unwrap();
    let co_values = [1, 2, 3, 4].map(CoValueFixture::new);
    for co_value in &co_values {
        let content = [1, 2, 3].map(|number| Author::new(number).write(1, 20));
        store.append(vec![co_value.create(content.to_vec())]).await.unwrap();
    }
    assert_eq!(store.check_sessions().await, Some(Vec::new()));
    store.close().await.unwrap();
    let intact = fs::read(path_in(&dir)).unwrap();
    let (mut found, mut partly) = (0, 0);
    for index in ["sessionsByCoValue", "sqlite_autoindex_sessions_1"] {
        let page = page_of(&dir, index);
        let used: Vec<usize> = page.filter(|place| intact[*place] != 0).collect();
        for place in used {
            let mut damaged = intact.clone();
            damaged[place] ^= 0x03;
            fs::write(path_in(&dir), damaged).unwrap();
            let store = SqliteStorage::open(path_in(&dir)).unwrap();
            let Some(named) = store.check_sessions().await else { continue };
            for co_value in &co_values {
                match store.load(co_value.id).await {
                    Ok(stored) => {
                        let stored = stored.unwrap_or_else(|| panic!("missing: {place}"));
                        assert_eq!(stored.sessions.len(), 3, "{index}, damaged at {place}");
                        assert!(!named.contains(&co_value.id));
                    }
                    Err(StorageError::Corrupt(damage)) => {
                        assert_eq!(damage.id(), Some(co_value.id));
                        // SQLite finds some of the damage by itself.
                        found += usize::from(named.contains(&co_value.id));
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            partly += usize::from((1..4).contains(&named.len()));
            store.close().await.unwrap();
        }
    }
    assert!(found > 20 && partly > 5, "{found} found, {partly} times of some CoValues alone");
}

#[tokio::test]
async fn no_byte_of_a_page_hides_a_session_or_content_of_a_native_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(&dir, Native);
    let mut authors = [1, 2, 3].map(Author::new);
    let co_values = [1, 2].map(CoValueFixture::new);
    for _ in 0..3 {
        let content = authors.each_mut().map(|author| author.write(1, 20));
        let batch = co_values.each_ref().map(|one| one.create(content.to_vec()));
        store.append(batch.to_vec()).await.unwrap();
    }
    store.close().await.unwrap();
    let intact = fs::read(path_in(&dir)).unwrap();
    let (mut refused, mut both) = (0, 0);
    for table in
        ["sessions", "log", "tails", "coValues", "sqlite_autoindex_coValues_1", "coValuesByHash"]
    {
        for place in page_of(&dir, table) {
            let mut damaged = intact.clone();
            damaged[place] ^= 0x03;
            if intact[place] == 0 {
                continue;
            }
            fs::write(path_in(&dir), damaged).unwrap();
            let Ok(store) = SqliteStorage::open(path_in(&dir)) else { continue };
            let mut here = 0;
            for co_value in &co_values {
                let loaded = store.load(co_value.id).await;
                let read = store.read(co_value.id, &SessionCounts::new(), 1 << 20).await;
                match (loaded, read) {
                    (Ok(loaded), Ok(read)) => {
                        let loaded = loaded.unwrap_or_else(|| panic!("missing: {table}, {place}"));
                        assert_eq!(loaded.sessions.len(), 3, "{table}, damaged at {place}");
                        for run in &read {
                            let author = authors.iter().find(|one| one.session == run.session);
                            let log = &author.unwrap().log;
                            assert_eq!(&run.transactions, log, "{table}, damaged at {place}");
                        }
                        assert_eq!(read.len(), 3, "{table}, damaged at {place}");
                    }
                    (Err(StorageError::Corrupt(damage)), _)
                    | (_, Err(StorageError::Corrupt(damage))) => {
                        assert_eq!(damage.id(), Some(co_value.id), "{damage}");
                        here += 1;
                    }
                    (loaded, read) => panic!("{loaded:?}, {read:?}"),
                }
            }
            refused += usize::from(here > 0);
            both += usize::from(here == 2);
            store.close().await.unwrap();
        }
    }
    assert!(refused > 1_000, "{refused} refused");
    assert!(both * 10 < refused, "both CoValues were refused {both} of {refused} times");
}
