//! Compacting a store.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use downbeat_protocol::SessionCounts;
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Storage, StorageError, StoreStats, Unsynced, UnsyncedUpdate, UpstreamName};
use downbeat_storage_sled::SledStorage;

const CO_VALUES: u64 = 100;

/// A store with some content that was deleted and some that was erased.
async fn store(dir: &Path) {
    let store = SledStorage::open(dir).unwrap();
    let mut authors: Vec<_> = (0..CO_VALUES).map(Author::new).collect();
    for round in 0..20 {
        let batch = authors.iter_mut().enumerate().map(|(number, author)| {
            let len = if round == 3 { 30_000 } else { 300 };
            CoValueFixture::new(number as u64).create(vec![author.write(1, len)])
        });
        store.append(batch.collect()).await.unwrap();
    }
    for number in 0..CO_VALUES / 2 {
        let one = CoValueFixture::new(number);
        store.append(vec![one.tombstone(Author::deleting(number).delete(one.id))]).await.unwrap();
        while number % 2 == 0 && store.erase(one.id).await.unwrap().more {}
    }
    let upstream = UpstreamName::new("up:stream").unwrap();
    let entry = Unsynced { id: CoValueFixture::new(60).id, upstream };
    store.track_unsynced(vec![UnsyncedUpdate { entry, synced: false }]).await.unwrap();
    store.close().await.unwrap();
}

/// Everything in the store.
async fn content(dir: &Path) -> (Vec<String>, StoreStats) {
    let store = SledStorage::open(dir).unwrap();
    let mut content = Vec::new();
    for id in store.list(None, usize::MAX).await.unwrap() {
        content.push(format!("{:?}", store.load(id).await.unwrap().unwrap()));
        let runs = store.read(id, &SessionCounts::new(), usize::MAX).await.unwrap();
        content.extend(runs.iter().map(|run| format!("{run:?}")));
    }
    content.push(format!("{:?}", store.erasable(None, usize::MAX).await.unwrap()));
    content.push(format!("{:?}", store.unsynced(None, usize::MAX).await.unwrap()));
    let mut stats = store.stats().await.unwrap();
    stats.disk_bytes = None;
    store.close().await.unwrap();
    (content, stats)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with("snap.")).collect();
    names.sort_unstable();
    names
}

fn compact(dir: &Path) -> Result<downbeat_storage_sled::Compacted, StorageError> {
    SledStorage::compact(dir, |_, _| ())
}

#[tokio::test]
async fn a_compacted_store_is_smaller_and_has_the_same_content() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path()).await;
    let (before, before_names) = (content(dir.path()).await, names(dir.path()));
    let mut steps = Vec::new();
    let compacted = SledStorage::compact(dir.path(), |done, all| steps.push((done, all))).unwrap();
    assert_eq!(steps.last(), Some(&(CO_VALUES, CO_VALUES)));
    assert!(steps.is_sorted(), "{steps:?}");
    assert!(compacted.bytes_after < compacted.bytes_before, "{compacted:?}");
    assert_eq!(names(dir.path()), before_names);
    assert!(content(dir.path()).await == before);
    // The watermark still notices a loss.
    fs::write(dir.path().join("mark"), "").unwrap();
    assert!(content(dir.path()).await == before);
}

#[tokio::test]
async fn an_incomplete_copy_is_removed_and_never_taken_for_the_store() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path()).await;
    let before = content(dir.path()).await;
    let copy = dir.path().join("compacting");
    fs::create_dir(&copy).unwrap();
    fs::write(copy.join("db"), "half a copy").unwrap();
    assert!(content(dir.path()).await == before);
    assert!(!copy.exists());
}

#[tokio::test]
async fn an_interrupted_swap_is_finished_from_every_step() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path()).await;
    let before = content(dir.path()).await;
    let old: BTreeMap<_, _> = files(dir.path());
    compact(dir.path()).unwrap();
    let new = files(dir.path());
    // The steps of the swap, after the copy has got its name: the snapshots of the old log go, and
    // then these files take their places.
    let moved = ["conf", "mark", "db"];
    for step in 0..=moved.len() + 1 {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("compacted");
        fs::create_dir(&copy).unwrap();
        for (name, bytes) in &old {
            if step == 0 || !name.starts_with("snap.") {
                fs::write(dir.path().join(name), bytes).unwrap();
            }
        }
        for (place, name) in moved.iter().enumerate() {
            let is_moved = place + 1 < step;
            let target = if is_moved { dir.path() } else { &copy };
            fs::write(target.join(name), &new[*name]).unwrap();
        }
        assert!(content(dir.path()).await == before, "step {step}");
        assert!(!copy.exists(), "step {step}");
        assert!(fs::metadata(dir.path().join("db")).unwrap().len() < old["db"].len() as u64);
    }
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
        .collect()
}

#[tokio::test]
async fn what_cannot_be_compacted_is_refused_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(compact(dir.path()), Err(StorageError::NotAStore { .. })));
    let missing = dir.path().join("missing");
    assert!(matches!(compact(&missing), Err(StorageError::Io { .. })));
    assert_eq!(names(dir.path()), [""; 0]);

    store(dir.path()).await;
    let open = SledStorage::open(dir.path()).unwrap();
    assert!(matches!(compact(dir.path()), Err(StorageError::Locked { .. })));
    open.close().await.unwrap();

    let before = content(dir.path()).await;
    // A file where the copy belongs.
    fs::write(dir.path().join("compacting"), "in the way").unwrap();
    assert!(matches!(compact(dir.path()), Err(StorageError::Io { .. })));
    fs::remove_file(dir.path().join("compacting")).unwrap();
    assert!(content(dir.path()).await == before);
    fs::write(dir.path().join("format"), "downbeat-storage-sled 99\n").unwrap();
    assert!(matches!(compact(dir.path()), Err(StorageError::NewerFormat { .. })));
}
