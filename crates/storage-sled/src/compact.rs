//! Compacts a store: copies its records into a new log, which then takes the place of the old one.
//!
//! The copy grows in the directory [`COMPACTING`] of the store. Once it is complete and durable,
//! the directory is renamed to [`COMPACTED`], while the old log is still locked. From then on the
//! copy is the store: whoever opens it next first moves the new files into their places. So after a
//! kill, either the copy is incomplete and is removed, or it is complete and is used.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use downbeat_storage::files::FileIdentity;
use downbeat_storage::{Compacted, StorageError};

use crate::keys::{self, Key};
use crate::open::{
    LOCK_PATIENCE, LOCK_POLL, SNAPSHOT_PREFIX, io_error, open_tree, require_store, sync_dir, totals,
};
use crate::options::SledOptions;
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

/// See [`SledStorage::compact`](crate::SledStorage::compact).
pub(crate) fn compact(
    dir: &Path,
    progress: impl FnMut(u64, u64),
) -> Result<Compacted, StorageError> {
    require_store(dir)?;
    finish(dir)?;
    let options = SledOptions::default().with_cache_bytes(CACHE_BYTES);
    let old = open_tree(dir, &options)?;
    old.flush()?;
    let bytes_before = bytes_of(dir);
    let new_dir = dir.join(COMPACTING);
    remove(&new_dir)?;
    let copied = copy(&old, &new_dir, &options, progress);
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
