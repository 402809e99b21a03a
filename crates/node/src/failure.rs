//! A storage that fails: telling what passes from what does not, and logging it once a minute.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use downbeat_driver::is_transient;
use downbeat_protocol::CoValueId;
use downbeat_storage::{Storage, StorageError};
use tracing::{debug, error, info};

use crate::ready::ANSWER_TIME;
use crate::stats::{Counters, add};
use crate::writer::WriteQueue;

/// How long to wait before a storage that failed is asked again. Often enough that nobody notices
/// how long after the disk the node got well.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

/// The shortest time between two log lines about the same trouble.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// How often storage is asked whether it would take content, although nobody writes.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// After so long without a failed reading, storage can be read again.
const READING_IS_WELL_AFTER: Duration = Duration::from_secs(5);

/// Something about storage that fails again and again, until it does not.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    told: Option<Instant>,
}

#[derive(Debug)]
struct Current {
    since: Instant,
    last: Instant,
    failures: u64,
    told: bool,
}

/// What a log line says about trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    /// How long it has lasted.
    pub(crate) lasting: Duration,
    /// How often storage has failed since it began.
    pub(crate) failures: u64,
}

impl Trouble {
    /// Storage has failed. Gives what to log, unless the last line is too recent.
    pub(crate) fn failed(&self, now: Instant) -> Option<Report> {
        let mut state = self.lock();
        let State { current, told } = &mut *state;
        let new = || Current { since: now, last: now, failures: 0, told: false };
        let current = current.get_or_insert_with(new);
        current.failures += 1;
        current.last = now;
        if told.is_some_and(|told| now.duration_since(told) < TELL_EVERY) {
            return None;
        }
        *told = Some(now);
        current.told = true;
        Some(current.report(now))
    }

    /// Storage has not failed. Gives what to log if a line has said that it did.
    pub(crate) fn ended(&self, now: Instant) -> Option<Report> {
        let current = self.lock().current.take()?;
        current.told.then(|| current.report(now))
    }

    /// Ends trouble that has not been seen for some time; see [`Self::ended`].
    fn ended_by_quiet(&self, quiet: Duration, now: Instant) -> Option<Report> {
        let lately = |current: &mut Current| now.saturating_duration_since(current.last) >= quiet;
        let current = self.lock().current.take_if(lately)?;
        current.told.then(|| current.report(now))
    }

    /// The state is never left half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    fn report(&self, now: Instant) -> Report {
        let lasting = now.saturating_duration_since(self.since);
        Report { lasting: Duration::from_secs(lasting.as_secs()), failures: self.failures }
    }
}

/// Logs that storage takes no content. Batches that wait are told by their number of stores.
pub(crate) fn writing_failed(error: &StorageError, counters: &Counters, queue: &WriteQueue) {
    if let Some(Report { lasting, failures }) = counters.writing.failed(Instant::now()) {
        let waiting = queue.waiting();
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

/// Logs that something cannot be read: damage each time that it is met, and what may pass once a
/// minute.
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
        error!(co_value, %error, cause, ?lasting, failures, "{what}; storage is tried again");
    } else {
        debug!(co_value, %error, "{what}; storage is tried again");
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

/// What is behind an error, as far as it is known.
fn causes(error: &StorageError) -> Option<String> {
    std::error::Error::source(error).map(ToString::to_string)
}

/// Asks storage every second whether it would take content, for ever: a full disk, or a store that
/// has been moved away, is noticed before somebody writes.
pub(crate) async fn watch(storage: Arc<dyn Storage>, queue: WriteQueue, counters: Arc<Counters>) {
    loop {
        tokio::time::sleep(CHECK_EVERY).await;
        // A storage that does not answer is told of by what waits for it.
        match tokio::time::timeout(ANSWER_TIME, storage.check()).await {
            Ok(Err(StorageError::Closed)) => return,
            Ok(Err(error)) => writing_failed(&error, &counters, &queue),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_once_a_minute_and_its_end_once() {
        let trouble = Trouble::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut told = Vec::new();
        for second in 0..150 {
            if let Some(report) = trouble.failed(at(second)) {
                told.push((report.lasting.as_secs(), report.failures));
            }
        }
        assert_eq!(told, [(0, 1), (60, 61), (120, 121)]);
        let end = Report { lasting: Duration::from_secs(150), failures: 150 };
        assert_eq!(trouble.ended(at(150)), Some(end));
        assert_eq!(trouble.ended(at(151)), None);
    }

    #[test]
    fn trouble_that_comes_and_goes_makes_no_more_lines() {
        let trouble = Trouble::default();
        let start = Instant::now();
        let mut lines = 0;
        for second in 0..120 {
            let now = start + Duration::from_secs(second);
            lines += usize::from(trouble.failed(now).is_some());
            lines += usize::from(trouble.ended(now).is_some());
        }
        assert_eq!(lines, 4, "two minutes, and a line for the trouble and its end in each");
    }

    #[test]
    fn trouble_is_over_when_it_has_not_been_seen_for_a_while() {
        let trouble = Trouble::default();
        let (start, quiet) = (Instant::now(), Duration::from_secs(5));
        trouble.failed(start).unwrap();
        assert_eq!(trouble.ended_by_quiet(quiet, start + quiet / 2), None);
        assert!(trouble.ended_by_quiet(quiet, start + quiet).is_some());
    }
}
