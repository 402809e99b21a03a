//! What the writer and the readers share: the tree, as long as it is there.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use downbeat_storage::StorageError;

use crate::tree::Tree;
use crate::writer::unwound;

/// The tree, if it is open.
#[derive(Debug)]
pub(crate) struct Shared {
    dir: PathBuf,
    state: Mutex<Result<Tree, StorageError>>,
}

impl Shared {
    pub(crate) fn new(tree: Tree) -> Self {
        Self { dir: tree.dir().to_owned(), state: Mutex::new(Ok(tree)) }
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

    pub(crate) fn set_open(&self, tree: Tree) {
        *self.lock() = Ok(tree);
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
}
