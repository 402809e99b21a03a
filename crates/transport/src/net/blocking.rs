//! Decoding of large frames without blocking other tasks.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// The largest frame that is decoded within a few milliseconds, like other work between two awaits.
const INLINE_BYTES: usize = 1 << 20;

/// Decodes a frame of `bytes` bytes. While a thread decodes a large frame (32 MiB take a tenth of a
/// second), a multi-threaded runtime serves other connections on another thread.
pub fn decode_blocking<T>(bytes: usize, decode: impl FnOnce() -> T) -> T {
    let has_threads = || {
        Handle::try_current()
            .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
    };
    if bytes > INLINE_BYTES && has_threads() { block_in_place(decode) } else { decode() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    /// Decodes until another task has run, or for two seconds.
    async fn others_go_on(bytes: usize) -> bool {
        let done = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&done);
        let other = tokio::spawn(async move { done.store(true, Ordering::Relaxed) });
        let went_on = decode_blocking(bytes, || {
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs(2) {
                if seen.load(Ordering::Relaxed) {
                    return true;
                }
                std::thread::yield_now();
            }
            false
        });
        other.await.unwrap();
        went_on
    }

    #[test]
    fn a_large_frame_blocks_no_other_task_where_there_are_threads() {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let large = runtime.spawn(others_go_on(INLINE_BYTES + 1));
        assert!(runtime.block_on(large).unwrap());
        let small = runtime.spawn(others_go_on(INLINE_BYTES));
        assert!(!runtime.block_on(small).unwrap());
    }

    #[tokio::test]
    async fn on_a_single_thread_it_is_decoded_there() {
        assert!(!others_go_on(INLINE_BYTES + 1).await);
    }
}
