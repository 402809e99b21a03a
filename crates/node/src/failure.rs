//! A storage that fails: asking it again, and logging its failures.

use std::time::{Duration, Instant};

use downbeat_driver::is_transient;
use downbeat_protocol::CoValueId;
use downbeat_storage::StorageError;
use tracing::{debug, error, info};

use crate::stats::{Counters, add};
use crate::trouble::Report;

/// Retry interval after a transient storage error.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

/// Logs that storage takes no content. `waiting` is the number of jobs that wait.
pub(crate) fn writing_failed(error: &StorageError, counters: &Counters, waiting: usize) {
    if let Some(Report { lasting, failures }) = counters.writing.failed(Instant::now()) {
        let cause = causes(error);
        error!(
            %error, cause, ?lasting, failures, waiting,
            "storage takes no content, and nothing new is acknowledged; it is tried again"
        );
    }
}

/// Logs that storage takes content again, if it did not.
pub(crate) fn writing_works(counters: &Counters) {
    if let Some(Report { lasting, failures }) = counters.writing.ended(Instant::now()) {
        info!(?lasting, failures, "storage takes content again");
    }
}

/// Logs that something cannot be read: damage each time, and transient errors once a minute.
pub(crate) fn reading_failed(
    what: &str,
    id: Option<CoValueId>,
    error: &StorageError,
    counters: &Counters,
) {
    let co_value = id.as_ref().map(CoValueId::as_str);
    if !is_transient(error) {
        error!(co_value, %error, "{what}");
    } else if let Some(Report { lasting, failures }) = counters.reading.failed(Instant::now()) {
        let cause = causes(error);
        error!(co_value, %error, cause, ?lasting, failures, "{what}; the read is tried again");
    } else {
        debug!(co_value, %error, "{what}; the read is tried again");
    }
}

/// Asks storage again and again until it answers. `None` if it cannot, because the stored data is
/// damaged; that is logged.
pub(crate) async fn retry<T, F>(
    what: &str,
    counters: &Counters,
    mut ask: impl FnMut() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, StorageError>>,
{
    loop {
        match ask().await {
            Ok(answer) => return Some(answer),
            Err(error) => {
                reading_failed(what, None, &error, counters);
                if !is_transient(&error) {
                    return None;
                }
            }
        }
        add(&counters.storage.read_retries, 1);
        tokio::time::sleep(RETRY).await;
    }
}

/// The source of an error, if there is one.
fn causes(error: &StorageError) -> Option<String> {
    std::error::Error::source(error).map(ToString::to_string)
}
