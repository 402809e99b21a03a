//! What the writer and the readers share: the tree, as long as it is there, and whether it can be
//! written.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use downbeat_storage::StorageError;

use crate::room;
use crate::tree::Tree;
use crate::writer::unwound;

/// The tree, if it is open.
#[derive(Debug)]
pub(crate) struct Shared {
    dir: PathBuf,
    state: Mutex<Result<Tree, StorageError>>,
    /// Why the tree cannot be written, although it may still be read.
    write_error: Mutex<Option<StorageError>>,
}

impl Shared {
    pub(crate) fn new(tree: Tree) -> Self {
        let dir = tree.dir().to_owned();
        Self { dir, state: Mutex::new(Ok(tree)), write_error: Mutex::default() }
    }

    /// The tree, or why it is not there. Readers keep it no longer than they need.
    pub(crate) fn tree(&self) -> Result<Tree, StorageError> {
        self.lock().clone()
    }

    /// Reads from the tree, if it is there. What makes sled panic is an error.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Tree) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        unwound("read from", &self.dir, || read(&self.tree()?))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// See [`Storage::check`](downbeat_storage::Storage::check).
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.tree()?.place().check()?;
        if let Some(error) = &*self.lock_write_error() {
            return Err(error.clone());
        }
        room::require_for_batch(&self.dir, 0)
    }

    pub(crate) fn set_open(&self, tree: Tree) {
        *self.lock() = Ok(tree);
        *self.lock_write_error() = None;
    }

    /// Keeps the tree for readers, if it is there.
    pub(crate) fn set_unwritable(&self, error: StorageError) {
        *self.lock_write_error() = Some(error);
    }

    /// Lets go of the tree. The lock is not held while sled closes it, which takes a flush.
    pub(crate) fn set_failed(&self, error: StorageError) {
        let tree = std::mem::replace(&mut *self.lock(), Err(error));
        drop(tree);
    }

    /// A tree or an error is always whole, so a panic elsewhere is no reason to stop.
    fn lock(&self) -> MutexGuard<'_, Result<Tree, StorageError>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_write_error(&self) -> MutexGuard<'_, Option<StorageError>> {
        self.write_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
