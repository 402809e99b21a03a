//! Running futures without a runtime.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Runs a future to its end on this thread, for storages that answer at once, such as
/// [`MemoryStorage`](downbeat_storage::MemoryStorage). Simulations and tests use it, because it
/// makes the order of everything that happens depend on the caller alone.
///
/// # Panics
///
/// If the future waits for something: another task, a thread or a timer. It would never be woken.
///
/// ```
/// use downbeat_storage::{MemoryStorage, Storage};
///
/// let storage = MemoryStorage::new();
/// assert_eq!(downbeat_driver::block_on(storage.count())?, 0);
/// # Ok::<_, downbeat_storage::StorageError>(())
/// ```
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    match pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future waits for something other than a storage in memory"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "waits for something")]
    fn a_future_that_waits_is_a_bug_of_the_caller() {
        block_on(std::future::pending::<()>());
    }
}
