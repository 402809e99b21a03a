//! Places in the engine's queue: no peer fills it.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Messages of one peer that wait for the engine at a time. Others wait for as many at most, which
/// the engine handles in some milliseconds; and they keep it busy while the peer sends more.
const PLACES_OF_PEER: usize = 128;

/// A peer's places in the engine's queue.
pub(crate) struct Places(Semaphore);

impl Default for Places {
    fn default() -> Self {
        Self(Semaphore::new(PLACES_OF_PEER))
    }
}

impl Places {
    /// Takes a place for a message, when there is one.
    pub(crate) async fn take(&self) {
        if self.0.try_acquire().map(SemaphorePermit::forget).is_err() {
            // Boxed, because it would make the state of each message larger. It never fails,
            // because the semaphore is not closed.
            let _ = Box::pin(self.0.acquire()).await.map(SemaphorePermit::forget);
        }
    }

    /// The engine has handled a message.
    pub(crate) fn give_back(&self) {
        self.0.add_permits(1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_peer_waits_for_the_engine_when_it_has_no_place_left() {
        let places = Places::default();
        for _ in 0..PLACES_OF_PEER {
            assert!(places.take().now_or_never().is_some());
        }
        assert!(places.take().now_or_never().is_none());
        places.give_back();
        assert!(places.take().now_or_never().is_some());
        assert!(places.take().now_or_never().is_none());
    }
}
