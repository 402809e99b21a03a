//! Checking storage every second, so that trouble is noticed when nothing is written.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use downbeat_storage::{Storage, StorageError};
use tracing::info;

use crate::failure::{writing_failed, writing_works};
use crate::ready::ANSWER_TIME;
use crate::stats::Counters;
use crate::trouble::Report;
use crate::writer::WriteQueue;

/// Interval between checks whether storage would take content.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// After so long without a failed reading, storage can be read again.
const READING_IS_WELL_AFTER: Duration = Duration::from_secs(5);

/// Checks storage every second, until it is closed. A full disk or a store that was moved away is
/// noticed before the next write.
pub(crate) async fn watch(storage: Arc<dyn Storage>, queue: WriteQueue, counters: Arc<Counters>) {
    loop {
        tokio::time::sleep(CHECK_EVERY).await;
        // If storage does not answer, the reads and writes that wait report it.
        match tokio::time::timeout(ANSWER_TIME, storage.check()).await {
            Ok(Err(StorageError::Closed)) => return,
            Ok(Err(error)) => writing_failed(&error, &counters, queue.waiting()),
            Ok(Ok(())) if !counters.writing_fails.load(Ordering::Relaxed) => {
                writing_works(&counters);
            }
            Ok(Ok(())) | Err(_) => {}
        }
        let ended = counters.reading.ended_by_quiet(READING_IS_WELL_AFTER, Instant::now());
        if let Some(Report { lasting, failures }) = ended {
            info!(?lasting, failures, "storage can be read again");
        }
    }
}
