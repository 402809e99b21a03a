use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use downbeat_protocol::SessionCounts;
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Outcome, Storage, StorageError};
use downbeat_storage_sled::SledStorage;
use tempfile::TempDir;

/// A store with two CoValues of two sessions each, closed.
async fn store() -> (TempDir, [CoValueFixture; 2], [Author; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStorage::open(dir.path()).unwrap();
    let co_values = [CoValueFixture::new(1), CoValueFixture::new(2)];
    let mut authors = [Author::new(1), Author::new(2)];
    for _ in 0..3 {
        let sessions: Vec<_> = authors.iter_mut().map(|author| author.write(2, 100)).collect();
        let batch = co_values.each_ref().map(|co_value| co_value.create(sessions.clone()));
        store.append(batch.to_vec()).await.unwrap();
    }
    store.close().await.unwrap();
    (dir, co_values, authors)
}

/// Opens the tree of a closed store, as soon as sled's threads have released it.
fn tree(dir: &Path) -> sled::Db {
    let config = sled::Config::new().path(dir).segment_size(2 << 20);
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("lock") => {}
            opened => return opened.unwrap(),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads a CoValue: its number of transactions, or the damage.
async fn read(store: &SledStorage, co_value: &CoValueFixture) -> Result<u64, StorageError> {
    let Some(stored) = store.load(co_value.id).await? else { return Ok(0) };
    assert_eq!(stored.header, co_value.header);
    let runs = store.read(co_value.id, &SessionCounts::new(), usize::MAX).await?;
    Ok(runs.iter().map(|run| run.transactions.len() as u64).sum())
}

#[tokio::test]
async fn every_damaged_record_of_a_covalue_is_found_and_named_and_the_others_are_served() {
    let (dir, [damaged, other], _) = store().await;
    let keys: Vec<_> = {
        let tree = tree(dir.path());
        tree.iter().keys().map(Result::unwrap).collect()
    };
    let id = damaged.id.to_string();
    let of_damaged = |key: &[u8]| key.windows(id.len()).any(|part| part == id.as_bytes());
    let mut tried = 0;
    for key in keys.iter().filter(|key| of_damaged(key)) {
        let tree_before = tree(dir.path());
        let record = tree_before.get(key).unwrap().unwrap();
        let mut bytes = record.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        tree_before.insert(key, bytes).unwrap();
        drop(tree_before);

        let store = SledStorage::open(dir.path()).unwrap();
        let error = read(&store, &damaged).await.expect_err("the damage is found");
        assert!(matches!(&error, StorageError::Corrupt(damage) if damage.id() == Some(damaged.id)));
        assert!(error.to_string().contains(&id), "{error}");
        assert_eq!(read(&store, &other).await.unwrap(), 12);
        assert_eq!(store.list(None, 10).await.unwrap().len(), 2);
        store.close().await.unwrap();

        let tree = tree(dir.path());
        tree.insert(key, record).unwrap();
        tried += 1;
    }
    assert_eq!(tried, 1 + 2 + 6, "the CoValue's record, two heads, six extensions");
    let store = SledStorage::open(dir.path()).unwrap();
    assert_eq!(read(&store, &damaged).await.unwrap(), 12);
}

#[tokio::test]
async fn every_missing_record_of_a_log_is_found() {
    let (dir, [damaged, other], _) = store().await;
    let keys: Vec<_> = {
        let tree = tree(dir.path());
        tree.scan_prefix(format!("t{}\0", damaged.id)).keys().map(Result::unwrap).collect()
    };
    assert_eq!(keys.len(), 6);
    for key in keys {
        let record = tree(dir.path()).remove(&key).unwrap().unwrap();
        let store = SledStorage::open(dir.path()).unwrap();
        let error = read(&store, &damaged).await.expect_err("the gap is found");
        assert!(matches!(&error, StorageError::Corrupt(damage) if damage.session().is_some()));
        assert_eq!(read(&store, &other).await.unwrap(), 12);
        store.close().await.unwrap();
        tree(dir.path()).insert(&key, record).unwrap();
    }
}

#[tokio::test]
async fn a_damaged_covalue_takes_no_writes_and_fails_no_batch() {
    let (dir, [damaged, other], [mut author, mut second]) = store().await;
    {
        let tree = tree(dir.path());
        let key = format!("h{}\0{}", damaged.id, author.session);
        tree.insert(key, b"no record").unwrap();
    }
    let store = SledStorage::open(dir.path()).unwrap();
    let (content, more) = (author.write(1, 20), second.write(1, 20));
    let batch = vec![
        damaged.extend(vec![more.clone(), content.clone()]),
        other.extend(vec![content]),
        damaged.extend(vec![more]),
    ];
    let outcomes = store.append(batch).await.unwrap();
    let Outcome::Damaged(damage) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(damage.id(), Some(damaged.id));
    assert_eq!(damage.session(), Some(&author.session));
    // The first write has stored nothing, so the third one fits.
    assert!(outcomes[1].is_complete() && outcomes[2].is_complete(), "{outcomes:?}");
    assert_eq!(read(&store, &other).await.unwrap(), 13);
}

#[tokio::test]
async fn a_damaged_covalue_that_cannot_be_erased_is_named() {
    let (dir, [damaged, other], [author, _]) = store().await;
    {
        let tree = tree(dir.path());
        let key = format!("h{}\0{}", damaged.id, author.session);
        tree.insert(key, b"no record").unwrap();
    }
    let store = SledStorage::open(dir.path()).unwrap();
    let batch = [&damaged, &other].map(|co_value| {
        let mut deleter = Author::deleting(1);
        co_value.tombstone(deleter.delete(co_value.id))
    });
    let outcomes = store.append(batch.to_vec()).await.unwrap();
    assert!(outcomes.iter().all(Outcome::is_complete), "a tombstone needs no other session");
    let error = store.erase(damaged.id).await.unwrap_err();
    assert!(matches!(&error, StorageError::Corrupt(damage) if damage.id() == Some(damaged.id)));
    assert_eq!(store.erase(other.id).await.unwrap().transactions, 12);
}

/// Damages a store's log at about this many places, one at a time. Either the store is refused, or
/// each CoValue is served in full or reported as damaged. Nothing panics.
async fn damage_everywhere(
    dir: &Path,
    co_values: &[CoValueFixture],
    places: usize,
    damage: impl Fn(&mut Vec<u8>, usize),
) -> Survival {
    let before: Vec<_> = files(dir).map(|path| (fs::read(&path).unwrap(), path)).collect();
    let log = fs::read(dir.join("db")).unwrap();
    let used = log.iter().rposition(|&byte| byte != 0).unwrap();
    let expected = {
        let store = SledStorage::open(dir).unwrap();
        read(&store, &co_values[0]).await.unwrap()
    };
    let mut survival = Survival::default();
    for offset in (0..used).step_by(used / places) {
        files(dir).for_each(|path| fs::remove_file(path).unwrap());
        for (bytes, path) in &before {
            fs::write(path, bytes).unwrap();
        }
        let mut bytes = log.clone();
        damage(&mut bytes, offset);
        fs::write(dir.join("db"), bytes).unwrap();
        let store = match SledStorage::open(dir) {
            Ok(store) => store,
            Err(error) => {
                assert!(error.to_string().contains(&dir.display().to_string()), "{error}");
                survival.refused += 1;
                continue;
            }
        };
        for co_value in co_values {
            match read(&store, co_value).await {
                Ok(count) => {
                    assert_eq!(count, expected, "damage at {offset} of {used}");
                    survival.served += 1;
                }
                Err(error) => {
                    assert!(error.to_string().contains(co_value.id.as_str()), "{error:?}");
                    survival.damaged += 1;
                }
            }
        }
        // Damage does not prevent writes to other CoValues.
        let content = Author::new(9).write(1, 20);
        let batch = co_values.iter().map(|co_value| co_value.extend(vec![content.clone()]));
        for outcome in store.append(batch.collect()).await.unwrap() {
            assert!(outcome.is_complete() || matches!(outcome, Outcome::Damaged(_)), "{outcome:?}");
        }
    }
    survival
}

/// The fate of damaged stores and their CoValues.
#[derive(Debug, Default)]
struct Survival {
    /// Stores that could not be opened.
    refused: usize,
    /// CoValues that were reported as damaged.
    damaged: usize,
    /// CoValues that were served in full.
    served: usize,
}

fn files(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file())
}

#[tokio::test]
async fn bytes_flipped_in_what_was_written_last_are_found() {
    let (dir, co_values) = new_store().await;
    let survival = damage_everywhere(dir.path(), &co_values, 30, |log, at| log[at] ^= 0xff).await;
    assert!(survival.refused > 0, "{survival:?}");
}

#[tokio::test]
async fn bytes_flipped_in_what_was_written_long_ago_are_found() {
    let (dir, co_values) = old_store().await;
    let survival = damage_everywhere(dir.path(), &co_values, 40, |log, at| log[at] ^= 0xff).await;
    assert!(survival.damaged > 0 && survival.served > 0, "{survival:?}");
}

#[tokio::test]
async fn a_log_that_was_cut_short_is_found() {
    for (dir, co_values) in [new_store().await, old_store().await] {
        let survival = damage_everywhere(dir.path(), &co_values, 10, Vec::truncate).await;
        assert!(survival.refused > 0, "{survival:?}");
    }
}

async fn new_store() -> (TempDir, [CoValueFixture; 2]) {
    let (dir, co_values, _) = store().await;
    (dir, co_values)
}

/// A store of a few megabytes that has been opened again since.
async fn old_store() -> (TempDir, [CoValueFixture; 2]) {
    let (dir, co_values, mut authors) = store().await;
    let store = SledStorage::open(dir.path()).unwrap();
    for _ in 0..20 {
        let sessions: Vec<_> = authors.iter_mut().map(|author| author.write(1, 50_000)).collect();
        let batch = co_values.each_ref().map(|co_value| co_value.create(sessions.clone()));
        store.append(batch.to_vec()).await.unwrap();
    }
    store.close().await.unwrap();
    // On opening, sled writes a snapshot of its page table. The next opening does not read the
    // whole log.
    drop(SledStorage::open(dir.path()).unwrap());
    (dir, co_values)
}
