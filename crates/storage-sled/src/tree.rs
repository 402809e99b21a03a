//! The sled tree, with errors that name the action and the directory.
//!
//! All calls into sled's data go through this file. It is also the one place that catches sled's
//! panics: sled 0.34 indexes unchecked into damaged files.

use std::fs::File;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use downbeat_storage::files::FileIdentity;
use downbeat_storage::{Damage, StorageError};
use sled::{Batch, IVec};

/// The file in which sled keeps everything.
pub(crate) const LOG_FILE: &str = "db";

/// An open tree. Clones share it. The directory is unlocked when the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    db: sled::Db,
    /// The log, opened a second time. See [`Self::flush`].
    log: Arc<File>,
    identity: FileIdentity,
    dir: Arc<Path>,
}

impl Tree {
    pub(crate) fn new(db: sled::Db, log: File, identity: FileIdentity, dir: &Path) -> Self {
        Self { db, log: Arc::new(log), identity, dir: dir.into() }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StorageError> {
        self.call("read from", || self.db.get(key))
    }

    /// The records from the first key up to the second, which is excluded.
    pub(crate) fn range(&self, (start, end): (Vec<u8>, Vec<u8>)) -> Records<'_> {
        Records { iter: self.db.range(start..end), tree: self }
    }

    /// The records whose keys begin with a prefix.
    pub(crate) fn prefix(&self, prefix: &[u8]) -> Records<'_> {
        Records { iter: self.db.scan_prefix(prefix), tree: self }
    }

    /// Reads `count` records on either side of a key, to find out whether they can be read.
    pub(crate) fn read_around(&self, key: &[u8], count: usize) -> Result<(), StorageError> {
        self.call("read from", || {
            let before = self.db.range(..key).rev().take(count);
            let after = self.db.range(key..).take(count);
            before.chain(after).try_for_each(|record| record.map(drop))
        })
    }

    /// Applies all changes or, after a crash, none.
    ///
    /// sled splits and merges nodes when it next visits them, even if it only reads. So this visits
    /// all changed keys. Otherwise a later read would write, and fail on a full disk.
    pub(crate) fn apply(&self, changes: Changes) -> Result<(), StorageError> {
        let Changes { batch, keys } = changes;
        self.call("write to", || {
            self.db.apply_batch(batch)?;
            keys.iter().try_for_each(|key| self.db.get(key).map(drop))
        })
    }

    /// Makes everything durable that was applied before.
    ///
    /// sled's own flush hands its buffers to the operating system and waits until they are written
    /// out (on Linux by `sync_file_range`). It waits neither for the file's new length, nor for the
    /// disk to empty its cache. That takes a sync of the log file.
    pub(crate) fn flush(&self) -> Result<(), StorageError> {
        self.call("write to", || self.db.flush())?;
        self.log.sync_data().map_err(|error| {
            StorageError::io(format!("cannot sync {}", self.log_path().display()), error)
        })
    }

    pub(crate) fn disk_bytes(&self) -> Result<u64, StorageError> {
        self.call("measure", || self.db.size_on_disk())
    }

    /// The identity of the log when it was opened.
    pub(crate) fn identity(&self) -> &FileIdentity {
        &self.identity
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join(LOG_FILE)
    }

    fn call<T>(
        &self,
        verb: &str,
        work: impl FnOnce() -> Result<T, sled::Error>,
    ) -> Result<T, StorageError> {
        call_sled(verb, &self.dir, work)?.map_err(|error| describe(error, verb, &self.dir))
    }
}

/// Calls sled. A panic of sled becomes the outer error, which names the action and the directory.
pub(crate) fn call_sled<T>(
    verb: &str,
    dir: &Path,
    work: impl FnOnce() -> T,
) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        let action = format!("cannot {verb} {}, which is probably damaged", dir.display());
        StorageError::backend(action, format!("sled panicked: {message}"))
    })
}

/// Converts an error of sled.
pub(crate) fn describe(error: sled::Error, verb: &str, dir: &Path) -> StorageError {
    let action = || format!("cannot {verb} {}", dir.display());
    let log = dir.join(LOG_FILE);
    match error {
        sled::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Damage::in_record(log.display().to_string(), "the file is shorter than it was").into()
        }
        sled::Error::Io(error) => StorageError::io(action(), error),
        sled::Error::Corruption { at, .. } => {
            let position = at.map_or_else(String::new, |at| format!(" at {at:?}"));
            let record = format!("{}{position}", log.display());
            Damage::in_record(record, "sled reports corruption").into()
        }
        other => StorageError::backend(action(), other),
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

/// Records in the order of their keys.
pub(crate) struct Records<'a> {
    iter: sled::Iter,
    tree: &'a Tree,
}

impl Iterator for Records<'_> {
    type Item = Result<(IVec, IVec), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { iter, tree } = self;
        tree.call("read from", || iter.next().transpose()).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_names_the_store() {
        let error = call_sled::<()>("open", Path::new("data"), || panic!("at {}", 7)).unwrap_err();
        assert!(error.to_string().contains("cannot open data"), "{error}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("at 7"), "{source}");
    }
}
