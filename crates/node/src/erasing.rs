//! Erasing the content of deleted CoValues from storage, in the background.

use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_driver::{EraseStep, Eraser};
use downbeat_storage::{Storage, StorageError};
use tokio::sync::Notify;
use tracing::{debug, error, info};

use crate::stats::{Counters, add};
use crate::trouble::{Report, Trouble};

/// Pause after a deletion: deletions come in groups, and peers come first.
const GATHER: Duration = Duration::from_secs(1);

/// Retry interval when storage fails. Erasing is not urgent.
const RETRY: Duration = Duration::from_secs(10);

/// Erases at the start and after every deletion, until storage is closed. It can be stopped at any
/// time: the next start finds the rest.
pub(crate) async fn run(storage: Arc<dyn Storage>, deleted: Arc<Notify>, counters: Arc<Counters>) {
    let trouble = Trouble::default();
    loop {
        match erase_all(&*storage, &counters).await {
            Ok(()) => {
                if trouble.ended(Instant::now()).is_some() {
                    info!("deleted CoValues are erased again");
                }
                deleted.notified().await;
                tokio::time::sleep(GATHER).await;
            }
            Err(StorageError::Closed) => return,
            Err(error) => {
                if let Some(Report { lasting, failures }) = trouble.failed(Instant::now()) {
                    error!(
                        %error, ?lasting, failures,
                        "deleted CoValues cannot be erased; it is tried again"
                    );
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn erase_all(storage: &dyn Storage, counters: &Counters) -> Result<(), StorageError> {
    let mut count = 0;
    let result = erase_parts(storage, counters, &mut count).await;
    if count > 0 {
        info!(count, "erased deleted CoValues");
    }
    result
}

async fn erase_parts(
    storage: &dyn Storage,
    counters: &Counters,
    count: &mut u64,
) -> Result<(), StorageError> {
    let mut eraser = Eraser::new();
    loop {
        let started = Instant::now();
        match eraser.step(storage).await? {
            EraseStep::Erased(id, part) => {
                add(&counters.storage.erased_transactions, part.transactions);
                add(&counters.storage.erased_bytes, part.bytes);
                debug!(co_value = %id, part.transactions, part.bytes, part.more, "erased a part");
                *count += u64::from(!part.more);
                // Half of storage's time is left for everything else.
                tokio::time::sleep(started.elapsed()).await;
            }
            EraseStep::Damaged(id, error) => {
                error!(co_value = %id, %error, "a deleted CoValue cannot be erased");
            }
            EraseStep::Done => return Ok(()),
        }
    }
}
