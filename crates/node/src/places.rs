//! Places in the engine's queue: no peer fills it.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Messages of one peer that wait for the engine at a time. Others wait for as many at most, which
/// the engine handles in some milliseconds; and they keep it busy while the peer sends more.
const PLACES_OF_PEER: usize = 128;

/// A peer's places in the engine's queue. Only the peer's reading half takes them.
#[derive(Default)]
pub(crate) struct Places {
    taken: AtomicUsize,
    free: Notify,
}

impl Places {
    /// Takes a place for a message, when there is one.
    pub(crate) async fn take(&self) {
        while self.taken.load(Ordering::Acquire) >= PLACES_OF_PEER {
            // Boxed, because it would make the state of each message larger.
            Box::pin(self.free.notified()).await;
        }
        self.taken.fetch_add(1, Ordering::AcqRel);
    }

    /// The engine has handled a message.
    pub(crate) fn give_back(&self) {
        if self.taken.fetch_sub(1, Ordering::AcqRel) == PLACES_OF_PEER {
            // It is noted for a reading half that is about to wait.
            self.free.notify_one();
        }
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
