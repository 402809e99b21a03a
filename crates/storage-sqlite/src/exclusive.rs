//! The lock of a store that one process has for itself.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use downbeat_storage::StorageError;

use crate::connection::{beside, create_parent};

/// Suffix of the name of the lock file, after the name of the store.
const SUFFIX: &str = "-lock";

/// Holds a lock on a file beside the store until it is dropped, or the process ends. It is not on
/// the store's own file, because SQLite loses its locks when any other handle of that is closed.
#[derive(Debug)]
pub(crate) struct ExclusiveLock {
    _file: File,
}

impl ExclusiveLock {
    /// Locks a store.
    ///
    /// # Errors
    ///
    /// [`StorageError::Locked`] if another process, or this one, has it locked.
    pub(crate) fn acquire(store: &Path) -> Result<Self, StorageError> {
        create_parent(store)?;
        let lock = beside(store, SUFFIX);
        let io_error = |error| StorageError::io(format!("cannot lock {}", lock.display()), error);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let file = options.open(&lock).map_err(io_error)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StorageError::Locked { path: store.to_owned() }),
            Err(TryLockError::Error(error)) => Err(io_error(error)),
        }
    }
}
