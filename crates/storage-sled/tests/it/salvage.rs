//! What can be read from damaged files without sled.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use downbeat_protocol::{CoValueId, SessionCounts, Transaction};
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Storage, StorageError};
use downbeat_storage_sled::{SledSalvage, SledStorage};
use tempfile::TempDir;

/// CoValues of the store, each with a session that was extended several times.
const CO_VALUES: u64 = 24;

/// The content of a store: the transactions of each session, and whether the CoValue is deleted.
type Content = BTreeMap<CoValueId, (bool, Vec<Vec<Transaction>>)>;

/// A store that was written, opened again and written again, as stores are.
async fn store(dir: &Path) {
    let mut authors: Vec<_> = (0..CO_VALUES).map(Author::new).collect();
    for round in 0..5_usize {
        let store = SledStorage::open(dir).unwrap();
        for part in 0..4 {
            let batch = (0..CO_VALUES).filter(|number| number % 4 == part).map(|number| {
                let author = &mut authors[usize::try_from(number).unwrap()];
                let len = [60, 300, 1_000, 9_000][(round + usize::try_from(number).unwrap()) % 4];
                let content = author.write(1 + round % 3, len);
                CoValueFixture::with_meta(number, &meta(number)).create(vec![content])
            });
            store.append(batch.collect()).await.unwrap();
        }
        store.close().await.unwrap();
    }
    // A deleted one, and a deleted and erased one.
    let store = SledStorage::open(dir).unwrap();
    for number in [1, 2] {
        let one = CoValueFixture::with_meta(number, &meta(number));
        let deletion = Author::deleting(number).delete(one.id);
        store.append(vec![one.tombstone(deletion)]).await.unwrap();
    }
    let erased = CoValueFixture::with_meta(2, &meta(2)).id;
    while store.erase(erased).await.unwrap().more {}
    store.close().await.unwrap();
}

/// Some headers take more than one record.
fn meta(number: u64) -> String {
    let len = if number.is_multiple_of(10) { 12_000 } else { 20 };
    format!(r#"{{"a":"{}"}}"#, "m".repeat(len))
}

/// What a store has, and what it says is damaged.
async fn content(store: &dyn Storage) -> (Content, Vec<StorageError>) {
    let (mut content, mut damage) = (Content::new(), Vec::new());
    for id in store.list(None, usize::MAX).await.unwrap() {
        let stored = match store.load(id).await {
            Ok(stored) => stored.unwrap(),
            Err(error) => {
                damage.push(error);
                continue;
            }
        };
        let mut sessions = Vec::new();
        for session in &stored.sessions {
            let mut have: SessionCounts =
                stored.sessions.iter().map(|other| (other.session.clone(), u64::MAX)).collect();
            have.set(&session.session, 0);
            let mut log = Vec::new();
            while (log.len() as u64) < session.count {
                have.set(&session.session, log.len() as u64);
                match store.read(id, &have, 1).await {
                    Ok(runs) => log.extend(runs.into_iter().flat_map(|run| run.transactions)),
                    Err(error) => {
                        damage.push(error);
                        break;
                    }
                }
            }
            sessions.push(log);
        }
        content.insert(id, (stored.deleted, sessions));
    }
    (content, damage)
}

/// A copy of a store's files.
fn copy(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    copy
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn salvage(dir: &Path) -> SledSalvage {
    SledSalvage::open(dir, |_| ()).unwrap()
}

#[tokio::test]
async fn an_intact_store_is_salvaged_as_it_is_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path()).await;
    let opened = SledStorage::open(dir.path()).unwrap();
    let (expected, damage) = content(&opened).await;
    let stats = opened.stats().await.unwrap();
    opened.close().await.unwrap();
    assert!(damage.is_empty());
    assert_eq!(expected.len() as u64, CO_VALUES);

    let before = files(dir.path());
    let salvaged = salvage(dir.path());
    assert_eq!(salvaged.losses(), []);
    let (found, damage) = content(&salvaged).await;
    assert_eq!(damage.len(), 0, "{damage:?}");
    assert!(found == expected);
    assert_eq!(salvaged.stats().await.unwrap().transactions, stats.transactions);
    assert!(files(dir.path()) == before);
}

#[tokio::test]
async fn every_flipped_bit_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path()).await;
    let (expected, _) = content(&salvage(dir.path())).await;
    let len = fs::metadata(dir.path().join("db")).unwrap().len();
    let original = fs::read(dir.path().join("db")).unwrap();
    let used = original.iter().rposition(|&byte| byte != 0).unwrap() as u64;
    let mut random = Random(0x5eed_0001);
    for trial in 0..150 {
        let place = random.below(used.min(len));
        let bit = random.below(8);
        let mut bytes = original.clone();
        bytes[usize::try_from(place).unwrap()] ^= 1 << bit;
        let damaged = copy(dir.path());
        fs::write(damaged.path().join("db"), bytes).unwrap();
        let salvaged = salvage(damaged.path());
        let (found, damage) = content(&salvaged).await;
        assert!(
            found == expected && damage.is_empty() && salvaged.losses().is_empty(),
            "trial {trial}, bit {bit} of byte {place}: {damage:?} {:?}",
            salvaged.losses()
        );
    }
}

/// How many CoValues differ from those of the undamaged store, after checking that all that was
/// found is a beginning of what was written, and that each loss is reported.
async fn lost(salvaged: &SledSalvage, expected: &Content, trial: &str) -> usize {
    let (found, damage) = content(salvaged).await;
    let mut lost = 0;
    for (id, (deleted, sessions)) in expected {
        let Some((found_deleted, found_sessions)) = found.get(id) else {
            lost += 1;
            continue;
        };
        // Without the record that says so, a deletion is still in the log of its session.
        let shows_again = *deleted && sessions.iter().all(|log| found_sessions.contains(log));
        let is_whole = (found_deleted == deleted && found_sessions == sessions) || shows_again;
        lost += usize::from(!is_whole);
        if found_deleted == deleted {
            for log in found_sessions {
                assert!(
                    sessions.iter().any(|written| written.starts_with(log)),
                    "{trial}: {id} has other content"
                );
            }
        }
    }
    assert!(found.keys().all(|id| expected.contains_key(id)), "{trial}: an unknown CoValue");
    let reports = damage.len() + salvaged.losses().len();
    assert!(lost == 0 || reports > 0, "{trial}: {lost} CoValues lost in silence");
    lost
}

#[tokio::test]
async fn an_erased_sector_loses_no_more_than_its_records() {
    const SECTOR: usize = 512;
    let dir = tempfile::tempdir().unwrap();
    store(dir.path()).await;
    let (expected, _) = content(&salvage(dir.path())).await;
    let original = fs::read(dir.path().join("db")).unwrap();
    let used = original.iter().rposition(|&byte| byte != 0).unwrap();
    let mut random = Random(0x5eed_0002);
    let mut losses = [0; 4];
    for trial in 0..100 {
        let sector = random.below((used / SECTOR) as u64 + 1);
        let start = usize::try_from(sector).unwrap() * SECTOR;
        let mut bytes = original.clone();
        let end = bytes.len().min(start + SECTOR);
        bytes[start..end].fill(if trial % 2 == 0 { 0 } else { 0xd7 });
        let damaged = copy(dir.path());
        fs::write(damaged.path().join("db"), bytes).unwrap();
        let lost = lost(&salvage(damaged.path()), &expected, &format!("sector {sector}")).await;
        losses[lost.min(3)] += 1;
    }
    println!("CoValues lost for an erased sector: none, 1, 2, more: {losses:?}");
    assert!(losses[0] + losses[1] > 90, "{losses:?}");
}

#[tokio::test]
async fn a_file_that_was_cut_loses_its_end() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path()).await;
    let (expected, _) = content(&salvage(dir.path())).await;
    let original = fs::read(dir.path().join("db")).unwrap();
    let mut random = Random(0x5eed_0003);
    for _ in 0..20 {
        let len = usize::try_from(random.below(original.len() as u64)).unwrap();
        let damaged = copy(dir.path());
        fs::write(damaged.path().join("db"), &original[..len]).unwrap();
        match SledSalvage::open(damaged.path(), |_| ()) {
            Ok(salvaged) => {
                lost(&salvaged, &expected, &format!("cut to {len}")).await;
            }
            Err(error) => assert!(matches!(error, StorageError::NotAStore { .. }), "{error}"),
        }
    }
}

#[tokio::test]
async fn all_files_but_the_log_may_be_gone() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path()).await;
    let (expected, _) = content(&salvage(dir.path())).await;
    for path in files(dir.path()).into_keys() {
        if path.file_name().unwrap() != "db" {
            fs::remove_file(path).unwrap();
        }
    }
    let salvaged = salvage(dir.path());
    assert_eq!(salvaged.losses(), []);
    assert!(content(&salvaged).await.0 == expected);
}

#[tokio::test]
async fn other_directories_and_open_stores_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = |dir: &Path| SledSalvage::open(dir, |_| ()).unwrap_err();
    assert!(matches!(open(dir.path()), StorageError::NotAStore { .. }));
    assert!(matches!(open(&dir.path().join("missing")), StorageError::NotAStore { .. }));
    fs::write(dir.path().join("db"), "a file of another program".repeat(10_000)).unwrap();
    assert!(matches!(open(dir.path()), StorageError::NotAStore { .. }));
    assert!(matches!(open(&dir.path().join("db")), StorageError::NotAStore { .. }));

    let dir = tempfile::tempdir().unwrap();
    let store = SledStorage::open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), StorageError::Locked { .. }));
    store.close().await.unwrap();
    drop(salvage(dir.path()));
    let format = dir.path().join("format");
    fs::write(&format, "downbeat-storage-sled 99\n").unwrap();
    assert!(matches!(open(dir.path()), StorageError::NewerFormat { found: 99, .. }));
}
