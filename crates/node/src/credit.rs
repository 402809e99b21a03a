//! Credit: how much content a peer may have in the machine's care.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

use crate::stats::{BackPressureCells, add, micros};

/// Bytes of transactions that a peer may have in the machine's care before its connection is read
/// no further. Several times what one group commit takes from one fast client, so that it does
/// not wait for the disk; and what one client can cost in memory.
pub(crate) const PEER_CREDIT: i64 = 8 << 20;

/// What a peer may still send.
pub(crate) struct Credit {
    left: AtomicI64,
    changed: Notify,
}

impl Credit {
    pub(crate) fn new() -> Self {
        Self { left: AtomicI64::new(PEER_CREDIT), changed: Notify::new() }
    }

    /// Gives credit back.
    pub(crate) fn release(&self, bytes: u64) {
        self.left.fetch_add(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::AcqRel);
        self.changed.notify_one();
    }

    /// Takes credit, when there is any: the last message may be larger than what is left.
    pub(crate) async fn take(&self, bytes: u64, waits: &BackPressureCells) {
        if bytes > 0 && self.left.load(Ordering::Acquire) <= 0 {
            let began = Instant::now();
            while self.left.load(Ordering::Acquire) <= 0 {
                self.changed.notified().await;
            }
            add(&waits.credit_waits, 1);
            add(&waits.credit_wait_micros, micros(began.elapsed()));
        }
        self.left.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::AcqRel);
    }
}
