//! Opening a directory: what may be in it, and what is made of an empty one.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use downbeat_storage::files::Place;
use downbeat_storage::{Damage, StorageError};
use sled::Mode;

use crate::keys;
use crate::mark::{MARK_FILE, Mark};
use crate::options::SledOptions;
use crate::record::{self, TotalsRecord};
use crate::tree::{Changes, LOG_FILE, Tree, describe};

/// The version of the layout that is written, and the newest that can be read.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// The file that says that a directory is a store, and of which version.
const FORMAT_FILE: &str = "format";

/// The same while the store is being created: whatever else is there was never used.
const UNFINISHED_FORMAT_FILE: &str = "format.unfinished";

const FORMAT_NAME: &str = "downbeat-storage-sled";

/// Larger than sled's default of 512 KiB: a tree node that takes more than a quarter of a segment
/// is put into a file of its own, which sled never syncs. Nodes here stay below; see
/// [`MAX_PART_LEN`](crate::parts::MAX_PART_LEN).
pub(crate) const SEGMENT_SIZE: usize = 2 << 20;

/// How often sled's own thread looks for segments to clean, in milliseconds. It flushes as well,
/// which nothing here relies on.
const CLEANING_INTERVAL_MS: u64 = 500;

/// How long to wait for a lock. When a store has just been closed in this process, a reader or one
/// of sled's threads may take a moment to let go of the log.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

/// How often to try for it.
const LOCK_POLL: Duration = Duration::from_millis(5);

/// What the names of sled's snapshots begin with.
const SNAPSHOT_PREFIX: &str = "snap.";

/// What the name of one ends with until it is complete.
const UNFINISHED_SNAPSHOT_SUFFIX: &str = ".generating";

/// What may lie in a directory that counts as empty: the root of a file system has this.
const LOST_AND_FOUND: &str = "lost+found";

/// An open store.
pub(crate) struct Opened {
    pub(crate) tree: Tree,
    pub(crate) mark: Mark,
    pub(crate) totals: TotalsRecord,
}

/// Opens the store in a directory, or creates one if there is none and nothing else either.
pub(crate) fn open(dir: &Path, options: &SledOptions) -> Result<Opened, StorageError> {
    if fs::metadata(dir).is_ok_and(|metadata| !metadata.is_dir()) {
        return Err(not_a_store(dir, "it is no directory"));
    }
    fs::create_dir_all(dir).map_err(|error| io_error("create", dir, error))?;
    match read_format(dir)? {
        Some(version) => open_existing(dir, version, options),
        None => create(dir, options),
    }
}

fn open_existing(dir: &Path, version: u32, options: &SledOptions) -> Result<Opened, StorageError> {
    if version > FORMAT_VERSION {
        return Err(StorageError::NewerFormat {
            path: dir.to_owned(),
            found: version,
            supported: FORMAT_VERSION,
        });
    }
    let log = dir.join(LOG_FILE);
    if let Err(error) = fs::metadata(&log) {
        return Err(match error.kind() {
            ErrorKind::NotFound => missing(&log),
            _ => io_error("open", &log, error),
        });
    }
    let tree = open_tree(dir, options)?;
    let totals = totals(&tree)?;
    // What sled recovered may have been written but not flushed.
    tree.flush()?;
    let mark = Mark::open(dir, totals.batches)?;
    Ok(Opened { tree, mark, totals })
}

/// The totals. A store always has them, so one without has lost its data.
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

/// Creates a store. The format file gets its name last, so that a store that has it is complete.
fn create(dir: &Path, options: &SledOptions) -> Result<Opened, StorageError> {
    let unfinished = dir.join(UNFINISHED_FORMAT_FILE);
    write_synced(&unfinished, format!("{FORMAT_NAME} {FORMAT_VERSION}\n").as_bytes())
        .map_err(|error| io_error("write", &unfinished, error))?;
    let tree = open_tree(dir, options)?;
    let totals = TotalsRecord::default();
    let mut batch = Changes::default();
    batch.insert(keys::TOTALS, record::encode(keys::TOTALS, &totals, 0));
    tree.apply(batch)?;
    tree.flush()?;
    let mark = create_mark(dir)?;
    let format = dir.join(FORMAT_FILE);
    fs::rename(&unfinished, &format).map_err(|error| io_error("create", &format, error))?;
    // The names of the files, and that of the directory, must be as durable as their content.
    sync_dir(dir)?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent)?,
        _ => {}
    }
    Ok(Opened { tree, mark, totals })
}

/// Makes the mark of a new store, whatever an earlier try has left.
fn create_mark(dir: &Path) -> Result<Mark, StorageError> {
    let path = dir.join(MARK_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove", &path, error)),
        _ => Mark::open(dir, 0),
    }
}

fn open_tree(dir: &Path, options: &SledOptions) -> Result<Tree, StorageError> {
    let config = sled::Config::new()
        .path(dir)
        .segment_size(SEGMENT_SIZE)
        .cache_capacity(options.cache_bytes)
        .flush_every_ms(Some(CLEANING_INTERVAL_MS))
        .mode(Mode::HighThroughput);
    let give_up = Instant::now() + LOCK_PATIENCE;
    let db = loop {
        match config.open() {
            Ok(db) => break db,
            Err(sled::Error::Corruption { .. }) if remove_unfinished_snapshots(dir)? => {}
            Err(error) if !is_lock_error(&error) => return Err(describe(error, "open", dir)),
            Err(_) if Instant::now() < give_up => thread::sleep(LOCK_POLL),
            Err(_) => return Err(StorageError::Locked { path: dir.to_owned() }),
        }
    };
    let path = dir.join(LOG_FILE);
    let log = File::open(&path).map_err(|error| io_error("open", &path, error))?;
    Ok(Tree::new(db, log, Place::of(path)?, dir))
}

/// Removes what is left of snapshots that were being written when the process died or the disk was
/// full, and tells whether there was anything. sled takes them for its newest snapshots, and finds
/// them damaged; the one before is still there, and has not lost its place in the log.
///
/// To be called when sled has complained, and so had the store to itself: then nobody is writing
/// one of them.
fn remove_unfinished_snapshots(dir: &Path) -> Result<bool, StorageError> {
    let read = |error| io_error("read", dir, error);
    let mut found = false;
    for entry in fs::read_dir(dir).map_err(read)? {
        let entry = entry.map_err(read)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(SNAPSHOT_PREFIX) && name.ends_with(UNFINISHED_SNAPSHOT_SUFFIX) {
            let path = entry.path();
            fs::remove_file(&path).map_err(|error| io_error("remove", &path, error))?;
            found = true;
        }
    }
    Ok(found)
}

/// sled has no error of its own for a log that another process has locked.
fn is_lock_error(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock"))
}

/// The format version of the store in a directory; `None` if the directory is empty, or if creating
/// a store in it was broken off.
fn read_format(dir: &Path) -> Result<Option<u32>, StorageError> {
    let path = dir.join(FORMAT_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => text
            .strip_prefix(FORMAT_NAME)
            .and_then(|version| version.trim().parse().ok())
            .map(Some)
            .ok_or_else(|| not_a_store(dir, "its file `format` does not say that it is one")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if is_new(dir)? {
                Ok(None)
            } else {
                Err(not_a_store(dir, "it holds files, but no file `format`"))
            }
        }
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(not_a_store(dir, "its file `format` is no text"))
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

fn sync_dir(dir: &Path) -> Result<(), StorageError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| io_error("sync", dir, error))
}

fn not_a_store(dir: &Path, reason: &str) -> StorageError {
    StorageError::NotAStore { path: dir.to_owned(), reason: reason.to_owned() }
}

fn missing(file: &Path) -> StorageError {
    Damage::in_record(file.display().to_string(), "the file is missing").into()
}

fn io_error(verb: &str, path: &Path, error: io::Error) -> StorageError {
    StorageError::io(format!("cannot {verb} {}", path.display()), error)
}
