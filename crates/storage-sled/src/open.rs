//! Opens the store in a directory, or creates one in an empty directory.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use downbeat_storage::files::{FileIdentity, sync_names};
use downbeat_storage::{Damage, StorageError};
use sled::Mode;

use crate::compact;
use crate::keys;
use crate::options::SledOptions;
use crate::record::{self, TotalsRecord};
use crate::tree::{Changes, LOG_FILE, Tree, call_sled, describe};
use crate::watermark::{WATERMARK_FILE, Watermark};

/// The version of the layout: the one that is written, and the newest that can be read.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// The file that marks a directory as a store and holds its version.
const FORMAT_FILE: &str = "format";

/// The name of [`FORMAT_FILE`] until the store is complete. With it, all other files are leftovers
/// of an interrupted creation.
const UNFINISHED_FORMAT_FILE: &str = "format.unfinished";

const FORMAT_NAME: &str = "downbeat-storage-sled";

/// Larger than sled's default of 512 KiB. sled puts a tree node of more than a quarter of a segment
/// into a file of its own, which it never syncs. Nodes of this store stay below that size; see
/// [`MAX_CHUNK_LEN`](crate::chunks::MAX_CHUNK_LEN).
pub(crate) const SEGMENT_SIZE: usize = 2 << 20;

/// Interval at which sled's own thread cleans segments, in milliseconds. It flushes as well; this
/// crate does not rely on that.
///
/// The thread ends its round after each segment that it has emptied. So this interval limits how
/// fast sled gives space back, and a longer one lets the log grow: after 60,000 live edits it took
/// 14 bytes for a byte of content with 500 ms, 6 to 9 with 100 ms, and 3.5 to 4 with 20 ms.
const CLEANING_INTERVAL_MS: u64 = 20;

/// Longest wait for the lock of the log. After a store was closed in this process, a reader or a
/// thread of sled may hold the log for a moment.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_millis(200);

/// Interval between attempts to lock.
pub(crate) const LOCK_POLL: Duration = Duration::from_millis(5);

/// The file with sled's configuration.
const CONFIG_FILE: &str = "conf";

/// Prefix of the names of sled's snapshots.
pub(crate) const SNAPSHOT_PREFIX: &str = "snap.";

/// Suffix of a snapshot's name until it is complete.
const UNFINISHED_SNAPSHOT_SUFFIX: &str = ".generating";

/// The root of a file system has this entry, and counts as an empty directory.
const LOST_AND_FOUND: &str = "lost+found";

/// An open store.
pub(crate) struct Opened {
    pub(crate) tree: Tree,
    pub(crate) watermark: Watermark,
    pub(crate) totals: TotalsRecord,
}

/// Opens the store in a directory. Creates one if the directory is missing or empty.
pub(crate) fn open(dir: &Path, options: &SledOptions) -> Result<Opened, StorageError> {
    if fs::metadata(dir).is_ok_and(|metadata| !metadata.is_dir()) {
        return Err(not_a_store(dir, "it is no directory"));
    }
    fs::create_dir_all(dir).map_err(|error| io_error("create", dir, error))?;
    let opened = match format_version(dir)? {
        Some(version) => open_existing(dir, version, options),
        None => create(dir, options),
    }?;
    // The names of the files and of the directory must be as durable as their content.
    sync_names(dir)?;
    Ok(opened)
}

/// Whether a directory holds files of a store.
pub(crate) fn has_files(dir: &Path) -> Result<bool, StorageError> {
    for name in [FORMAT_FILE, UNFINISHED_FORMAT_FILE, LOG_FILE] {
        let path = dir.join(name);
        if path.try_exists().map_err(|error| io_error("look for", &path, error))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn open_existing(dir: &Path, version: u32, options: &SledOptions) -> Result<Opened, StorageError> {
    if version > FORMAT_VERSION {
        return Err(newer_format(dir, version));
    }
    require_log(dir)?;
    compact::finish(dir)?;
    let tree = open_tree(dir, options)?;
    compact::remove_incomplete(dir)?;
    let totals = totals(&tree)?;
    // sled may have recovered changes that were written but not flushed.
    tree.flush()?;
    let watermark = Watermark::open(dir, totals.batches)?;
    Ok(Opened { tree, watermark, totals })
}

/// Checks that a directory holds a store that this version can read.
pub(crate) fn require_store(dir: &Path) -> Result<(), StorageError> {
    match format_version(dir)? {
        Some(version) if version > FORMAT_VERSION => Err(newer_format(dir, version)),
        Some(_) => require_log(dir),
        None => Err(not_a_store(dir, "it has no file `format`")),
    }
}

fn require_log(dir: &Path) -> Result<(), StorageError> {
    let log = dir.join(LOG_FILE);
    fs::metadata(&log).map(drop).map_err(|error| match error.kind() {
        ErrorKind::NotFound => missing(&log),
        _ => io_error("open", &log, error),
    })
}

pub(crate) fn newer_format(dir: &Path, found: u32) -> StorageError {
    StorageError::NewerFormat { path: dir.to_owned(), found, supported: FORMAT_VERSION }
}

/// Reads the totals. Every store has them; one without has lost its data.
pub(crate) fn totals(tree: &Tree) -> Result<TotalsRecord, StorageError> {
    let damaged = |reason: String| {
        let file = tree.dir().join(LOG_FILE);
        StorageError::from(Damage::in_record(file.display().to_string(), reason))
    };
    let Some(totals) = tree.get(keys::TOTALS)? else {
        return Err(damaged("the totals are missing".to_owned()));
    };
    record::decode(keys::TOTALS, &totals).map_err(|error| damaged(format!("the totals: {error}")))
}

/// Creates a store. The format file gets its name last, when everything else is on the disk, so a
/// store with a format file is complete, also after a power failure.
fn create(dir: &Path, options: &SledOptions) -> Result<Opened, StorageError> {
    let unfinished = dir.join(UNFINISHED_FORMAT_FILE);
    write_synced(&unfinished, format!("{FORMAT_NAME} {FORMAT_VERSION}\n").as_bytes())
        .map_err(|error| io_error("write", &unfinished, error))?;
    // Other files without this name would not be taken for an interrupted creation.
    sync_names(&unfinished)?;
    remove_leftovers(dir)?;
    let tree = open_tree(dir, options)?;
    let totals = TotalsRecord::default();
    let mut batch = Changes::default();
    batch.insert(keys::TOTALS, record::encode(keys::TOTALS, &totals, 0));
    tree.apply(batch)?;
    tree.flush()?;
    let watermark = Watermark::open(dir, 0)?;
    sync_names(&unfinished)?;
    let format = dir.join(FORMAT_FILE);
    fs::rename(&unfinished, &format).map_err(|error| io_error("create", &format, error))?;
    Ok(Opened { tree, watermark, totals })
}

/// Removes the files of an interrupted creation. A power failure may have left any part of them.
/// Fails if another process is creating the store.
fn remove_leftovers(dir: &Path) -> Result<(), StorageError> {
    let log = dir.join(LOG_FILE);
    // Holds the lock that sled takes, until the files are removed.
    let _locked = match File::open(&log) {
        Ok(file) => match file.try_lock() {
            Ok(()) => Some(file),
            Err(TryLockError::WouldBlock) => {
                return Err(StorageError::Locked { path: dir.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(io_error("lock", &log, error)),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(io_error("open", &log, error)),
    };
    let mut leftovers = vec![dir.join(WATERMARK_FILE)];
    leftovers.extend([LOG_FILE, CONFIG_FILE].map(|name| dir.join(name)));
    leftovers.extend(snapshots(dir)?);
    for path in leftovers {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(io_error("remove", &path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(crate) fn open_tree(dir: &Path, options: &SledOptions) -> Result<Tree, StorageError> {
    let config = sled::Config::new()
        .path(dir)
        .segment_size(SEGMENT_SIZE)
        .cache_capacity(options.cache_bytes)
        .flush_every_ms(Some(CLEANING_INTERVAL_MS))
        .mode(Mode::HighThroughput);
    let give_up = Instant::now() + LOCK_PATIENCE;
    let db = loop {
        match call_sled("open", dir, || config.open())? {
            Ok(db) => break db,
            Err(sled::Error::Corruption { .. }) if remove_unfinished_snapshots(dir)? => {}
            Err(error) if !is_lock_error(&error) => return Err(describe(error, "open", dir)),
            Err(_) if Instant::now() < give_up => thread::sleep(LOCK_POLL),
            Err(_) => return Err(StorageError::Locked { path: dir.to_owned() }),
        }
    };
    sync_config(dir)?;
    let path = dir.join(LOG_FILE);
    let log = File::open(&path).map_err(|error| io_error("open", &path, error))?;
    Ok(Tree::new(db, log, FileIdentity::of(path)?, dir))
}

/// Removes incomplete snapshots, which sled leaves when the process dies or the disk is full.
/// Returns whether there were any. sled takes them for its newest snapshots and reports damage. The
/// snapshot before is still there, and the log still has everything since.
///
/// Call this only after sled has reported damage. sled then had the store locked, so no process is
/// writing a snapshot.
fn remove_unfinished_snapshots(dir: &Path) -> Result<bool, StorageError> {
    let mut found = false;
    for path in snapshots(dir)? {
        if path.to_string_lossy().ends_with(UNFINISHED_SNAPSHOT_SUFFIX) {
            fs::remove_file(&path).map_err(|error| io_error("remove", &path, error))?;
            found = true;
        }
    }
    Ok(found)
}

/// The paths of sled's snapshots, complete or not.
fn snapshots(dir: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let read = |error| io_error("read", dir, error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(read)? {
        let entry = entry.map_err(read)?;
        if entry.file_name().to_string_lossy().starts_with(SNAPSHOT_PREFIX) {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

/// sled writes its configuration without a flush, and does not open a store without it.
fn sync_config(dir: &Path) -> Result<(), StorageError> {
    let path = dir.join(CONFIG_FILE);
    File::open(&path)
        .and_then(|config| config.sync_all())
        .map_err(|error| io_error("sync", &path, error))
}

/// sled has no error of its own for a log that another process has locked.
fn is_lock_error(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock"))
}

/// The format version of the store in a directory; `None` if the directory is empty, or holds an
/// interrupted creation.
pub(crate) fn format_version(dir: &Path) -> Result<Option<u32>, StorageError> {
    let path = dir.join(FORMAT_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => text
            .strip_prefix(FORMAT_NAME)
            .and_then(|version| version.trim().parse().ok())
            .map(Some)
            .ok_or_else(|| not_a_store(dir, "its file `format` belongs to another program")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if is_new(dir)? {
                Ok(None)
            } else {
                Err(not_a_store(dir, "it holds files, but no file `format`"))
            }
        }
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(not_a_store(dir, "its file `format` is not text"))
        }
        Err(error) => Err(io_error("read", &path, error)),
    }
}

fn is_new(dir: &Path) -> Result<bool, StorageError> {
    let read = |error| io_error("read", dir, error);
    let mut empty = true;
    for entry in fs::read_dir(dir).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        if name == UNFINISHED_FORMAT_FILE {
            return Ok(true);
        }
        empty &= name == LOST_AND_FOUND;
    }
    Ok(empty)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), StorageError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| io_error("sync", dir, error))
}

fn not_a_store(dir: &Path, reason: &str) -> StorageError {
    StorageError::NotAStore { path: dir.to_owned(), reason: reason.to_owned() }
}

fn missing(file: &Path) -> StorageError {
    Damage::in_record(file.display().to_string(), "the file is missing").into()
}

pub(crate) fn io_error(verb: &str, path: &Path, error: io::Error) -> StorageError {
    StorageError::io(format!("cannot {verb} {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store, and the same files as an interrupted creation may leave them.
    fn interrupted() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), &SledOptions::default()).unwrap());
        let format = dir.path().join(FORMAT_FILE);
        fs::rename(&format, dir.path().join(UNFINISHED_FORMAT_FILE)).unwrap();
        dir
    }

    #[test]
    fn leftovers_of_a_creation_may_be_torn() {
        for name in [LOG_FILE, CONFIG_FILE, WATERMARK_FILE, UNFINISHED_FORMAT_FILE] {
            for content in [&[][..], &[0; 700][..]] {
                let dir = interrupted();
                fs::write(dir.path().join(name), content).unwrap();
                let opened = open(dir.path(), &SledOptions::default());
                assert_eq!(opened.unwrap().totals.batches, 0, "{name}");
            }
        }
    }

    #[test]
    fn files_of_a_creation_that_goes_on_are_left_alone() {
        let dir = interrupted();
        let log = dir.path().join(LOG_FILE);
        let other = File::open(&log).unwrap();
        other.lock().unwrap();
        let error = open(dir.path(), &SledOptions::default()).err().unwrap();
        assert!(matches!(error, StorageError::Locked { .. }), "{error}");
        assert!(log.exists());
        drop(other);
        open(dir.path(), &SledOptions::default()).unwrap();
    }
}
