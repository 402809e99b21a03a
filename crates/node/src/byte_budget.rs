//! Bytes of memory that many draw from.

use tokio::sync::{Semaphore, SemaphorePermit};

/// A number of bytes, from which shares are taken. Those that wait are served in their order.
pub(crate) struct ByteBudget {
    /// One permit for each byte. Never closed.
    room: Semaphore,
    bytes: u32,
}

impl ByteBudget {
    /// A budget of so many bytes, or of 4 GiB if that is less (a semaphore has fewer on 32 bits).
    pub(crate) fn new(bytes: u64) -> Self {
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(most);
        Self { room: Semaphore::new(bytes as usize), bytes }
    }

    /// Bytes that are taken at the moment.
    pub(crate) fn used(&self) -> u64 {
        u64::from(self.bytes).saturating_sub(self.room.available_permits() as u64)
    }

    /// The share for so many bytes: what is more than the whole budget takes all of it.
    pub(crate) fn share(&self, bytes: u64) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes)
    }

    /// Takes a share, if there is room and none waits.
    pub(crate) fn try_take(&self, share: u32) -> Option<SemaphorePermit<'_>> {
        self.room.try_acquire_many(share).ok()
    }

    /// Takes a share when its turn comes. `None` never comes, because the budget is not closed.
    pub(crate) async fn take(&self, share: u32) -> Option<SemaphorePermit<'_>> {
        self.room.acquire_many(share).await.ok()
    }

    /// Gives back bytes whose permits were forgotten.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.room.add_permits(usize::try_from(bytes).unwrap_or_default());
    }
}
