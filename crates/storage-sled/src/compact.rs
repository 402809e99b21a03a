//! Compacts a store: copies its records into a new log, which then takes the place of the old one.
//!
//! The copy grows in the directory [`COMPACTING`] of the store. Once it is complete and durable,
//! the directory is renamed to [`COMPACTED`], while the old log is still locked. From then on the
//! copy is the store: the next process that opens it first moves the new files into their places. So
//! after a kill, either the copy is incomplete and is removed, or it is complete and is used.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use downbeat_storage::files::{FileIdentity, require_space};
use downbeat_storage::{Compacted, StorageError};
use tracing::{info, warn};

use crate::keys::{self, Key};
use crate::open::{
    self, LOCK_PATIENCE, LOCK_POLL, Opened, SNAPSHOT_PREFIX, io_error, open_tree, require_store,
    sync_dir, totals,
};
use crate::options::SledOptions;
use crate::record::TotalsRecord;
use crate::space;
use crate::tree::{Changes, LOG_FILE, Tree};
use crate::watermark::{WATERMARK_FILE, Watermark};

/// The directory of an incomplete copy.
pub(crate) const COMPACTING: &str = "compacting";

/// The directory of a complete copy.
pub(crate) const COMPACTED: &str = "compacted";

/// sled's parameters.
const CONFIG_FILE: &str = "conf";

/// sled's directory for long nodes.
const BLOB_DIR: &str = "blobs";

/// Bytes of records in a batch. A flush of the disk takes longer than the copying of fewer.
const BATCH_BYTES: usize = 4 << 20;

/// The cache for each of the two logs. Each record is read and written once, in the order of keys.
const CACHE_BYTES: u64 = 16 << 20;

/// The shortest log that is compacted at the start. A shorter one is no burden.
const MIN_GARBAGE_LOG: u64 = if cfg!(test) { 4 << 20 } else { 64 << 20 };

/// How many times longer than its records a log is when it is compacted at the start: three
/// quarters of it are garbage. A compacted log is at most three times longer.
const GARBAGE_FACTOR: u64 = 4;

/// See [`SledStorage::compact`](crate::SledStorage::compact).
pub(crate) fn compact(
    dir: &Path,
    progress: impl FnMut(u64, u64),
) -> Result<Compacted, StorageError> {
    require_store(dir)?;
    finish(dir)?;
    let options = SledOptions::default().with_cache_bytes(CACHE_BYTES);
    let old = open_tree(dir, &options)?;
    compact_open(dir, old, &options, progress)
}

/// Compacts an open log, and closes it.
fn compact_open(
    dir: &Path,
    old: Tree,
    options: &SledOptions,
    progress: impl FnMut(u64, u64),
) -> Result<Compacted, StorageError> {
    old.flush()?;
    let bytes_before = bytes_of(dir);
    let new_dir = dir.join(COMPACTING);
    remove(&new_dir)?;
    let copied = copy(&old, &new_dir, options, progress);
    if let Err(error) = copied {
        // The space is needed, and the next start removes it if this fails.
        let _ = remove(&new_dir);
        return Err(error);
    }
    let complete = dir.join(COMPACTED);
    fs::rename(&new_dir, &complete).map_err(|error| io_error("create", &complete, error))?;
    sync_dir(dir)?;
    drop(old);
    match finish(dir) {
        // Another process has been faster to open the store.
        Ok(()) | Err(StorageError::Locked { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(Compacted::new(bytes_before, bytes_of(dir)))
}

/// Compacts a store that was just opened if most of its log is garbage. If that fails, the store is
/// opened as it is.
pub(crate) fn compact_garbage(
    dir: &Path,
    opened: Opened,
    options: &SledOptions,
) -> Result<Opened, StorageError> {
    let (len, live) = (space::log_len(dir), live_bytes(&opened.totals));
    if len < MIN_GARBAGE_LOG || len / GARBAGE_FACTOR < live {
        return Ok(opened);
    }
    let store = dir.display();
    // The records, in leaves that are half full, and as much again until sled has cleaned up.
    if let Err(error) = require_space(dir, live * 4) {
        warn!(%store, %error, "most of the store is garbage, but there is no space to compact it");
        return Ok(opened);
    }
    info!(%store, bytes = len, records = live, "compacting the store, because most of it is garbage");
    let Opened { tree, watermark, .. } = opened;
    drop(watermark);
    match compact_open(dir, tree, options, |_, _| ()) {
        Ok(Compacted { bytes_after, .. }) => info!(%store, bytes = bytes_after, "compacted"),
        Err(error) => warn!(%store, %error, "cannot compact the store, which is as it was"),
    }
    open::open(dir, options)
}

/// An estimate of the bytes of all records: not less than they take.
fn live_bytes(totals: &TotalsRecord) -> u64 {
    // Keys, signatures and lengths. Most edits of clients have a record of their own.
    const OF_TRANSACTION: u64 = 300;
    const OF_SESSION: u64 = 300;
    const OF_CO_VALUE: u64 = 600;
    totals.transaction_bytes
        + totals.transactions * OF_TRANSACTION
        + totals.sessions * OF_SESSION
        + totals.co_values * OF_CO_VALUE
}

/// Copies all records into a new log.
fn copy(
    old: &Tree,
    new_dir: &Path,
    options: &SledOptions,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), StorageError> {
    fs::create_dir(new_dir).map_err(|error| io_error("create", new_dir, error))?;
    let totals = totals(old)?;
    let new = open_tree(new_dir, options)?;
    let (mut batch, mut bytes) = (Changes::default(), 0);
    let (mut last, mut done) = (None, 0);
    for record in old.range((Vec::new(), vec![u8::MAX])) {
        let (key, value) = record?;
        if let Some(Key::LogChunk(id, ..)) = keys::parse(&key)
            && last.replace(id) != Some(id)
        {
            done += 1;
            progress(done.min(totals.co_values), totals.co_values);
        }
        bytes += key.len() + value.len();
        batch.insert(key, value);
        if bytes >= BATCH_BYTES {
            write(&new, new_dir, std::mem::take(&mut batch), bytes)?;
            bytes = 0;
        }
    }
    write(&new, new_dir, batch, bytes)?;
    new.flush()?;
    drop(new);
    let mark = new_dir.join(WATERMARK_FILE);
    drop(Watermark::open(new_dir, totals.batches)?);
    for path in [new_dir.join(LOG_FILE), mark, new_dir.join(CONFIG_FILE)] {
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(|error| io_error("sync", &path, error))?;
    }
    sync_dir(new_dir)?;
    progress(totals.co_values, totals.co_values);
    Ok(())
}

fn write(new: &Tree, dir: &Path, batch: Changes, bytes: usize) -> Result<(), StorageError> {
    space::require_for_batch(dir, bytes as u64)?;
    new.apply(batch)?;
    new.flush()
}

/// Puts a complete copy into the place of the old log, if there is one. Can be interrupted and
/// repeated. The log must not be open.
pub(crate) fn finish(dir: &Path) -> Result<(), StorageError> {
    let copy = dir.join(COMPACTED);
    if !exists(&copy)? {
        return Ok(());
    }
    let lock = lock(dir)?;
    if exists(&copy.join(LOG_FILE))? {
        // The snapshots and blobs belong to the old log. The new one needs none: sled reads the
        // whole log if there is no snapshot.
        for path in old_files(dir)? {
            fs::remove_file(&path).map_err(|error| io_error("remove", &path, error))?;
        }
        sync_dir(dir)?;
        // The log comes last: without it, the copy is done.
        for name in [CONFIG_FILE, WATERMARK_FILE, LOG_FILE] {
            let (from, to) = (copy.join(name), dir.join(name));
            match fs::rename(&from, &to) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(io_error("replace", &to, error));
                }
                _ => {}
            }
        }
        sync_dir(dir)?;
    }
    remove(&copy)?;
    drop(lock);
    Ok(())
}

/// Removes an incomplete copy. The log must be open, so that no other process is writing the copy.
pub(crate) fn remove_incomplete(dir: &Path) -> Result<(), StorageError> {
    remove(&dir.join(COMPACTING))
}

/// Locks the log as sled does.
fn lock(dir: &Path) -> Result<File, StorageError> {
    let path = dir.join(LOG_FILE);
    let give_up = Instant::now() + LOCK_PATIENCE;
    loop {
        let log = File::open(&path).map_err(|error| io_error("open", &path, error))?;
        let identity = FileIdentity::of(&path)?;
        match log.try_lock() {
            // Another process may have replaced it before it was locked.
            Ok(()) if identity.check().is_ok() => return Ok(log),
            Err(TryLockError::Error(error)) => return Err(io_error("lock", &path, error)),
            _ if Instant::now() >= give_up => {
                return Err(StorageError::Locked { path: dir.to_owned() });
            }
            _ => thread::sleep(LOCK_POLL),
        }
    }
}

fn old_files(dir: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| io_error("read", dir, error))? {
        let entry = entry.map_err(|error| io_error("read", dir, error))?;
        if entry.file_name().to_string_lossy().starts_with(SNAPSHOT_PREFIX) {
            files.push(entry.path());
        }
    }
    let blobs = dir.join(BLOB_DIR);
    for entry in fs::read_dir(&blobs).into_iter().flatten() {
        files.push(entry.map_err(|error| io_error("read", &blobs, error))?.path());
    }
    Ok(files)
}

/// The length of the log and its snapshots.
fn bytes_of(dir: &Path) -> u64 {
    let len = |path: PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let rest: u64 = old_files(dir).into_iter().flatten().map(len).sum();
    len(dir.join(LOG_FILE)) + rest
}

fn exists(path: &Path) -> Result<bool, StorageError> {
    path.try_exists().map_err(|error| io_error("look for", path, error))
}

fn remove(dir: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove", dir, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use downbeat_storage::Storage as _;
    use downbeat_storage::conformance::{Author, CoValueFixture};

    use super::*;
    use crate::store::SledStorage;

    #[tokio::test]
    async fn a_store_that_is_mostly_garbage_is_compacted_when_it_is_opened() {
        const CO_VALUES: u64 = 40;
        let dir = tempfile::tempdir().unwrap();
        let store = SledStorage::open(dir.path()).unwrap();
        for number in 0..CO_VALUES {
            let one = CoValueFixture::new(number);
            let content = Author::new(number).write(1, 400_000);
            store.append(vec![one.create(vec![content])]).await.unwrap();
        }
        store.close().await.unwrap();
        let len = space::log_len(dir.path());
        let open = |compact| {
            let options = SledOptions::default().with_compact_garbage(compact);
            SledStorage::open_with(dir.path(), options).unwrap()
        };
        let path = dir.path().join(LOG_FILE);
        let log = FileIdentity::of(&path).unwrap();
        let store = open(true);
        assert!(log.check().is_ok(), "it is full of content");
        for number in 0..CO_VALUES {
            let one = CoValueFixture::new(number);
            let deletion = Author::deleting(number).delete(one.id);
            store.append(vec![one.tombstone(deletion)]).await.unwrap();
            while store.erase(one.id).await.unwrap().more {}
        }
        store.close().await.unwrap();

        // At least as long as it was before sled cleaned it.
        let lengthen = || {
            let log = fs::OpenOptions::new().write(true).open(&path).unwrap();
            log.set_len(len.max(log.metadata().unwrap().len())).unwrap();
        };
        lengthen();
        open(false).close().await.unwrap();
        assert!(log.check().is_ok(), "it was not asked for");
        lengthen();
        let store = open(true);
        assert!(log.check().is_err(), "it is compacted");
        assert!(space::log_len(dir.path()) < len / 2);
        assert_eq!(store.count().await.unwrap(), CO_VALUES);
        store.close().await.unwrap();
    }
}
