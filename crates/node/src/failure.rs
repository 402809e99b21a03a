//! Telling a storage that fails for now from one that will never answer.

use std::time::Duration;

use downbeat_storage::StorageError;

/// How long to wait before a storage that failed is asked again. Often enough that nobody notices
/// how long after the disk the node got well, and seldom enough that a log shows each try.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

/// Whether trying again can help: not where what is stored is damaged, nor after closing.
pub(crate) fn may_pass(error: &StorageError) -> bool {
    !matches!(error, StorageError::Corrupt(_) | StorageError::Closed)
}
