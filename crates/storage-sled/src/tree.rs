//! The sled tree, with errors that say what was tried and where.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use downbeat_storage::files::Place;
use downbeat_storage::{Damage, StorageError};
use sled::{Batch, IVec};

/// An open tree. Clones share it; the directory is unlocked when the last one is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    db: sled::Db,
    /// The log, opened a second time. See [`Self::flush`].
    log: Arc<File>,
    place: Place,
    dir: Arc<Path>,
}

impl Tree {
    pub(crate) fn new(db: sled::Db, log: File, place: Place, dir: &Path) -> Self {
        Self { db, log: Arc::new(log), place, dir: dir.into() }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StorageError> {
        self.db.get(key).map_err(|error| self.error("read from", error))
    }

    /// The records from the first key up to the second, which is not among them.
    pub(crate) fn range(&self, (start, end): (Vec<u8>, Vec<u8>)) -> Records<'_> {
        Records { iter: self.db.range(start..end), tree: self }
    }

    /// The records whose keys begin with a prefix.
    pub(crate) fn prefix(&self, prefix: &[u8]) -> Records<'_> {
        Records { iter: self.db.scan_prefix(prefix), tree: self }
    }

    /// Reads as many records on either side of a key, to see whether that can be done.
    pub(crate) fn around(&self, key: &[u8], count: usize) -> Result<(), StorageError> {
        let before = self.db.range(..key).rev().take(count);
        let after = self.db.range(key..).take(count);
        let mut records = before.chain(after);
        records
            .try_for_each(|record| record.map(drop))
            .map_err(|error| self.error("read from", error))
    }

    /// Applies all changes or, after a crash, none.
    ///
    /// sled splits and merges nodes when it next comes past them, even if it only reads. So it is
    /// led past all that has changed: otherwise reading would write, and fail on a full disk.
    pub(crate) fn apply(&self, changes: Changes) -> Result<(), StorageError> {
        let Changes { batch, keys } = changes;
        let result = self.db.apply_batch(batch);
        result
            .and_then(|()| keys.iter().try_for_each(|key| self.db.get(key).map(drop)))
            .map_err(|error| self.error("write to", error))
    }

    /// Makes everything durable that was applied before.
    ///
    /// sled's own flush hands its buffers to the operating system and waits until they are written
    /// out (on Linux by `sync_file_range`), but does not wait for the file's new length, nor for
    /// the disk to empty its cache. That takes a sync of the log file.
    pub(crate) fn flush(&self) -> Result<(), StorageError> {
        self.db.flush().map_err(|error| self.error("write to", error))?;
        self.log.sync_data().map_err(|error| {
            StorageError::io(format!("cannot sync {}", self.log_path().display()), error)
        })
    }

    pub(crate) fn disk_bytes(&self) -> Result<u64, StorageError> {
        self.db.size_on_disk().map_err(|error| self.error("measure", error))
    }

    /// Where the log was when it was opened.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join(LOG_FILE)
    }

    fn error(&self, verb: &str, error: sled::Error) -> StorageError {
        describe(error, verb, &self.dir)
    }
}

/// Changes that are applied together.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    batch: Batch,
    keys: Vec<IVec>,
}

impl Changes {
    pub(crate) fn insert(&mut self, key: impl Into<IVec>, value: impl Into<IVec>) {
        let key = key.into();
        self.keys.push(key.clone());
        self.batch.insert(key, value);
    }

    pub(crate) fn remove(&mut self, key: impl Into<IVec>) {
        let key = key.into();
        self.keys.push(key.clone());
        self.batch.remove(key);
    }
}

/// The file in which sled keeps everything.
pub(crate) const LOG_FILE: &str = "db";

/// What sled says, as an error of this crate.
pub(crate) fn describe(error: sled::Error, verb: &str, dir: &Path) -> StorageError {
    let action = || format!("cannot {verb} {}", dir.display());
    let log = dir.join(LOG_FILE);
    match error {
        sled::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Damage::in_record(log.display().to_string(), "it is shorter than it was").into()
        }
        sled::Error::Io(error) => StorageError::io(action(), error),
        sled::Error::Corruption { at, .. } => {
            let place = at.map_or_else(String::new, |at| format!(" at {at:?}"));
            Damage::in_record(format!("{}{place}", log.display()), "sled found it corrupted").into()
        }
        other => StorageError::Backend { action: action(), source: Arc::new(other) },
    }
}

/// Records in the order of their keys.
pub(crate) struct Records<'a> {
    iter: sled::Iter,
    tree: &'a Tree,
}

impl Iterator for Records<'_> {
    type Item = Result<(IVec, IVec), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.iter.next()?.map_err(|error| self.tree.error("read from", error)))
    }
}
