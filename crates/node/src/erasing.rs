//! Erasing what deletions have left behind in storage, in the background.

use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_protocol::CoValueId;
use downbeat_storage::{Storage, StorageError};
use tokio::sync::Notify;
use tracing::{debug, error, info};

use crate::failure::{Report, Trouble, may_pass};
use crate::stats::{Counters, add};

/// CoValues that are looked up at a time among those to be erased.
const PAGE: usize = 100;

/// How long to wait after a deletion: they come in groups, and those who made them come first.
const GATHER: Duration = Duration::from_secs(1);

/// How long to wait when storage fails. Nobody waits for this.
const RETRY: Duration = Duration::from_secs(10);

/// Erases what there is to erase at the start and after every deletion, for ever. It can be stopped
/// at any time: what is left is found again.
pub(crate) async fn run(storage: Arc<dyn Storage>, deleted: Arc<Notify>, counters: Arc<Counters>) {
    let trouble = Trouble::default();
    loop {
        match erase_all(&*storage, &counters).await {
            Ok(()) => {
                if trouble.ended(Instant::now()).is_some() {
                    info!("what deletions left behind is erased again");
                }
                deleted.notified().await;
                tokio::time::sleep(GATHER).await;
            }
            Err(StorageError::Closed) => return,
            Err(error) => {
                if let Some(Report { lasting, failures }) = trouble.failed(Instant::now()) {
                    error!(
                        %error, ?lasting, failures,
                        "what deletions left behind cannot be erased; it is tried again"
                    );
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn erase_all(storage: &dyn Storage, counters: &Counters) -> Result<(), StorageError> {
    let mut count = 0;
    let result = erase_pages(storage, counters, &mut count).await;
    if count > 0 {
        info!(count, "erased deleted CoValues");
    }
    result
}

async fn erase_pages(
    storage: &dyn Storage,
    counters: &Counters,
    count: &mut u64,
) -> Result<(), StorageError> {
    let mut after = None;
    loop {
        let page = storage.erasable(after, PAGE).await?;
        for id in &page {
            match erase_one(storage, *id, counters).await {
                // The others can be erased all the same.
                Err(error) if !may_pass(&error) && !matches!(error, StorageError::Closed) => {
                    error!(co_value = %id, %error, "a deleted CoValue cannot be erased");
                }
                Ok(()) => *count += 1,
                other => other?,
            }
        }
        if page.len() < PAGE {
            return Ok(());
        }
        after = page.last().copied();
    }
}

async fn erase_one(
    storage: &dyn Storage,
    id: CoValueId,
    counters: &Counters,
) -> Result<(), StorageError> {
    loop {
        let started = Instant::now();
        let erased = storage.erase(id).await?;
        add(&counters.storage.erased_transactions, erased.transactions);
        add(&counters.storage.erased_bytes, erased.bytes);
        debug!(co_value = %id, erased.transactions, erased.bytes, "erased a part");
        // Half of storage's time is for everybody else.
        tokio::time::sleep(started.elapsed()).await;
        if !erased.more {
            debug!(co_value = %id, "erased a deleted CoValue");
            return Ok(());
        }
    }
}
