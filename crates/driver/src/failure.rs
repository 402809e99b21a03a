//! Which failures of a storage are worth another try.

use downbeat_storage::StorageError;

/// Whether trying again can help. It cannot where stored data is damaged, nor after the storage has
/// been closed.
pub fn is_transient(error: &StorageError) -> bool {
    !matches!(error, StorageError::Corrupt(_) | StorageError::Closed)
}
