//! State shared by the writer and the readers: the tree while it is open, and whether it can be
//! written.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use downbeat_storage::StorageError;

use crate::space;
use crate::tree::Tree;

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

    /// The tree, or why it is not open. Readers keep it no longer than they need.
    pub(crate) fn tree(&self) -> Result<Tree, StorageError> {
        self.lock().clone()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// See [`Storage::check`](downbeat_storage::Storage::check).
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.tree()?.identity().check()?;
        if let Some(error) = &*self.lock_write_error() {
            return Err(error.clone());
        }
        space::require_for_batch(&self.dir, 0)
    }

    pub(crate) fn set_open(&self, tree: Tree) {
        *self.lock() = Ok(tree);
        *self.lock_write_error() = None;
    }

    /// Keeps the tree for readers, if it is open.
    pub(crate) fn set_unwritable(&self, error: StorageError) {
        *self.lock_write_error() = Some(error);
    }

    /// Drops the tree. The lock is not held while sled closes it, which takes a flush.
    pub(crate) fn set_failed(&self, error: StorageError) {
        let tree = std::mem::replace(&mut *self.lock(), Err(error));
        drop(tree);
    }

    /// Holds a tree or an error, and is never half changed. So a poisoned lock holds a good state.
    fn lock(&self) -> MutexGuard<'_, Result<Tree, StorageError>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_write_error(&self) -> MutexGuard<'_, Option<StorageError>> {
        self.write_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
