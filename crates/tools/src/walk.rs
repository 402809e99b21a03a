//! Visits all CoValues of a store, on all cores.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use downbeat_protocol::CoValueId;
use downbeat_storage::{Damage, StorageError};

use crate::error::Error;
use crate::store::Store;

/// Ids per list request: far more than the threads visit during a request.
const PAGE: usize = 4_096;

/// Ids that a thread takes at a time. Enough that threads do not queue for ids, and few enough that
/// all threads finish at about the same time.
const SHARE: usize = 16;

/// The result of a walk.
pub(crate) struct Walked {
    /// The number of listed CoValues.
    pub listed: u64,
    /// The damage that ended the list early.
    pub broken_off: Option<Damage>,
}

struct Ids<'a> {
    store: &'a Store,
    page: VecDeque<CoValueId>,
    after: Option<CoValueId>,
    /// Ids of the next request.
    limit: usize,
    at_end: bool,
    walked: Walked,
}

/// Calls `visit` with every CoValue of a store, from several threads. Stops at the first error.
pub(crate) fn walk(
    store: &Store,
    visit: impl Fn(CoValueId) -> Result<(), Error> + Sync,
) -> Result<Walked, Error> {
    let ids = Mutex::new(Ids {
        store,
        page: VecDeque::new(),
        after: None,
        limit: PAGE,
        at_end: false,
        walked: Walked { listed: 0, broken_off: None },
    });
    let stop = AtomicBool::new(false);
    let work = || -> Result<(), Error> {
        while !stop.load(Ordering::Relaxed) {
            let share = ids.lock().unwrap_or_else(PoisonError::into_inner).share()?;
            if share.is_empty() {
                break;
            }
            share.into_iter().try_for_each(&visit)?;
        }
        Ok(())
    };
    let work = || {
        let result = work();
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        result
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads()).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(join)
    })?;
    Ok(ids.into_inner().unwrap_or_else(PoisonError::into_inner).walked)
}

/// The number of worker threads.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Waits for a thread. Continues its panic, if it panicked.
pub(crate) fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Ids<'_> {
    /// The next ids; empty at the end.
    fn share(&mut self) -> Result<Vec<CoValueId>, StorageError> {
        while self.page.is_empty() && !self.at_end {
            match self.store.list(self.after, self.limit) {
                Ok(page) => {
                    self.at_end = page.len() < self.limit;
                    self.after = page.last().copied().or(self.after);
                    self.walked.listed += page.len() as u64;
                    self.page = page.into();
                }
                // Ids before the damage can be listed one by one.
                Err(StorageError::Corrupt(_)) if self.limit > 1 => self.limit = 1,
                Err(StorageError::Corrupt(damage)) => {
                    self.at_end = true;
                    self.walked.broken_off = Some(damage);
                }
                Err(error) => return Err(error),
            }
        }
        let share = self.page.len().min(SHARE);
        Ok(self.page.drain(..share).collect())
    }
}
