//! Credit: how much content peers may have in the machine's care.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::{Notify, SemaphorePermit};

use crate::byte_budget::ByteBudget;
use crate::lock::lock;
use crate::stats::{BackPressureCells, add, micros};

/// Bytes that a peer may have in the machine's care before its connection is read no further.
/// Several times what one group commit takes from one fast client, so that it does not wait for
/// the disk; and what one client can cost in memory.
pub(crate) const PEER_CREDIT: u64 = 8 << 20;

/// Peers whose own credit is as much as the pool of all.
const PEERS_PER_POOL: u64 = 1_024;

/// The least and the most own credit of a peer. Small writes fit into the least, so they never
/// wait for other peers; more than the most is no small write.
const OWN_CREDIT: (u64, u64) = (16 << 10, 256 << 10);

/// Credit that all peers share. What a peer has in the machine's care beyond a small own credit is
/// taken from here, so that many peers cannot fill the memory.
pub(crate) struct CreditPool {
    budget: ByteBudget,
    /// What each peer has without the pool.
    own: u64,
}

impl CreditPool {
    pub(crate) fn new(bytes: u64) -> Self {
        let (least, most) = OWN_CREDIT;
        let own = (bytes / PEERS_PER_POOL).clamp(least, most);
        Self { budget: ByteBudget::new(bytes), own }
    }

    /// Bytes that are taken at the moment.
    pub(crate) fn used(&self) -> u64 {
        self.budget.used()
    }

    fn try_take(&self, bytes: u32) -> bool {
        self.budget.try_take(bytes).map(SemaphorePermit::forget).is_some()
    }

    /// Takes credit when its turn comes. Returns what was taken.
    async fn take(&self, bytes: u32, waits: &BackPressureCells) -> u32 {
        let began = Instant::now();
        let taken = self.budget.take(bytes).await.map(SemaphorePermit::forget);
        add(&waits.pool_waits, 1);
        add(&waits.pool_wait_micros, micros(began.elapsed()));
        taken.map_or(0, |()| bytes)
    }

    fn give_back(&self, bytes: u64) {
        self.budget.give_back(bytes);
    }
}

/// What a peer may still send.
pub(crate) struct Credit {
    taken: Mutex<Taken>,
    changed: Notify,
    pool: Arc<CreditPool>,
}

/// Credit that was taken for content. It is given back, unless the content gets on its way.
#[must_use = "content that gets on its way keeps its credit"]
pub(crate) struct Loan<'a> {
    credit: &'a Credit,
    bytes: u64,
}

impl Loan<'_> {
    /// The content is on its way: [`Credit::release`] gives the credit back.
    pub(crate) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.credit.release(self.bytes);
        }
    }
}

/// The credit that a peer has taken.
#[derive(Debug, Default)]
struct Taken {
    bytes: u64,
    /// The part that is taken from the pool.
    pooled: u64,
}

impl Taken {
    fn with(&self, bytes: u64) -> Self {
        Self { bytes: self.bytes.saturating_add(bytes), pooled: self.pooled }
    }

    /// What the pool has to give for this much.
    fn needs(&self, own: u64) -> u64 {
        self.bytes.saturating_sub(own)
    }
}

impl Credit {
    pub(crate) fn new(pool: Arc<CreditPool>) -> Self {
        Self { taken: Mutex::default(), changed: Notify::new(), pool }
    }

    /// Gives credit back.
    pub(crate) fn release(&self, bytes: u64) {
        let mut taken = self.taken();
        taken.bytes = taken.bytes.saturating_sub(bytes);
        self.settle(&mut taken);
        drop(taken);
        self.changed.notify_one();
    }

    /// Whether nothing of the peer is in the machine's care.
    pub(crate) fn is_settled(&self) -> bool {
        self.taken().bytes == 0
    }

    /// Waits until the peer has less than this in the machine's care.
    pub(crate) async fn below(&self, bytes: u64) {
        while self.taken().bytes >= bytes {
            self.changed.notified().await;
        }
    }

    /// Takes credit, when there is any: the last message may be larger than what is left to the
    /// peer. What the peer's own credit does not cover waits for its turn in the pool. There may be
    /// one call at a time.
    pub(crate) async fn take(&self, bytes: u64, waits: &BackPressureCells) -> Loan<'_> {
        if self.taken().bytes >= PEER_CREDIT {
            let began = Instant::now();
            self.below(PEER_CREDIT).await;
            add(&waits.credit_waits, 1);
            add(&waits.credit_wait_micros, micros(began.elapsed()));
        }
        let pooled = {
            let taken = self.taken();
            let needed = taken.with(bytes).needs(self.pool.own).saturating_sub(taken.pooled);
            self.pool.budget.share(needed)
        };
        let pooled = match pooled {
            0 => 0,
            _ if self.pool.try_take(pooled) => pooled,
            // Boxed, because it is rare, and would make the state of all content larger.
            _ => Box::pin(self.pool.take(pooled, waits)).await,
        };
        let mut taken = self.taken();
        *taken = taken.with(bytes);
        taken.pooled += u64::from(pooled);
        // Some may have been given back meanwhile.
        self.settle(&mut taken);
        Loan { credit: self, bytes }
    }

    /// Gives back what the pool need not give any more.
    fn settle(&self, taken: &mut Taken) {
        let excess = taken.pooled.saturating_sub(taken.needs(self.pool.own));
        taken.pooled -= excess;
        self.pool.give_back(excess);
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        lock(&self.taken)
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        let pooled = self.taken().pooled;
        self.pool.give_back(pooled);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// A pool with an own credit of 16 KiB for each peer.
    fn pool(bytes: u64) -> Arc<CreditPool> {
        Arc::new(CreditPool::new(bytes))
    }

    /// Whether credit can be taken at once.
    fn takes(credit: &Credit, bytes: u64) -> bool {
        let waits = BackPressureCells::default();
        let loan = credit.take(bytes, &waits).now_or_never();
        loan.map(Loan::keep).is_some()
    }

    #[test]
    fn small_writes_do_not_wait_for_those_who_fill_the_pool() {
        let pool = pool(1 << 20);
        let flood: Vec<_> = (0..4).map(|_| Credit::new(Arc::clone(&pool))).collect();
        assert!(flood.iter().take(3).all(|credit| takes(credit, 300 << 10)));
        assert!(!takes(&flood[3], 300 << 10), "the pool is used up");
        let honest = Credit::new(Arc::clone(&pool));
        assert!(takes(&honest, 10 << 10));
        flood[0].release(300 << 10);
        assert!(takes(&Credit::new(Arc::clone(&pool)), 300 << 10));
    }

    #[test]
    fn what_is_given_back_and_who_leaves_fill_the_pool_again() {
        let pool = pool(1 << 20);
        let credit = Credit::new(Arc::clone(&pool));
        assert!(takes(&credit, 100 << 10) && takes(&credit, 100 << 10));
        assert_eq!(pool.used(), (200 - 16) << 10);
        credit.release(150 << 10);
        assert_eq!(pool.used(), (50 - 16) << 10);
        drop(credit);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn a_message_larger_than_the_pool_takes_all_of_it() {
        let pool = pool(1 << 20);
        let credit = Credit::new(Arc::clone(&pool));
        assert!(takes(&credit, 7 << 20));
        assert_eq!(pool.used(), 1 << 20);
        credit.release(7 << 20);
        assert_eq!(pool.used(), 0);
        assert!(credit.is_settled());
    }

    #[test]
    fn content_that_does_not_get_on_its_way_costs_nothing() {
        let credit = Credit::new(pool(1 << 20));
        let waits = BackPressureCells::default();
        drop(credit.take(1_000, &waits).now_or_never());
        assert!(credit.is_settled());
    }

    #[test]
    fn a_peer_has_a_bound_of_its_own() {
        let credit = Credit::new(pool(1 << 30));
        assert!(takes(&credit, PEER_CREDIT) && !takes(&credit, 1));
        credit.release(1);
        assert!(takes(&credit, 1));
    }
}
