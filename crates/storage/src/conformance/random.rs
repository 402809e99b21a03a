//! Random histories, run on a store and in memory.

use std::sync::Arc;

use downbeat_protocol::SessionCounts;

use super::Store;
use super::content::{Author, CoValueFixture};
use super::paging::entry;
use crate::memory::MemoryStorage;
use crate::types::{StoreStats, Unsynced, UnsyncedUpdate, Write};

/// CoValues of a history, and authors of each.
const CO_VALUES: u64 = 12;
const AUTHORS: u64 = 4;

pub(super) async fn a_random_history_ends_as_in_memory(store: &Store) {
    let mut history = History::new(20_240_229);
    for _ in 0..300 {
        history.step(store).await;
    }
    history.assert_equal(store).await;
}

/// A random history, and the expected state.
pub(super) struct History {
    random: Random,
    model: Store,
    /// Authors by CoValue, the last one of each with a delete session.
    authors: Vec<(CoValueFixture, Vec<Author>)>,
}

impl History {
    pub(super) fn new(seed: u64) -> Self {
        let authors = (0..CO_VALUES)
            .map(|number| {
                let mut authors: Vec<_> =
                    (0..AUTHORS).map(|author| Author::new(number * 100 + author)).collect();
                authors.push(Author::deleting(number));
                (CoValueFixture::new(number), authors)
            })
            .collect();
        Self { random: Random(seed), model: Arc::new(MemoryStorage::new()), authors }
    }

    /// Does one random thing to the store and to the model. Both must answer alike.
    pub(super) async fn step(&mut self, store: &Store) {
        match self.random.below(20) {
            0 => {
                let id = self.authors[self.random.below(CO_VALUES)].0.id;
                store.erase(id).await.unwrap();
                self.model.erase(id).await.unwrap();
            }
            1 => {
                let updates: Vec<_> = (0..self.random.below(5)).map(|_| self.update()).collect();
                store.track_unsynced(updates.clone()).await.unwrap();
                self.model.track_unsynced(updates).await.unwrap();
            }
            2 => self.read(store).await,
            _ => {
                let count = 1 + self.random.below(6);
                let batch: Vec<_> = (0..count).map(|_| self.write()).collect();
                let outcomes = store.append(batch.clone()).await.unwrap();
                assert_eq!(outcomes, self.model.append(batch).await.unwrap());
            }
        }
    }

    /// Checks that store and model hold the same content, to the last byte.
    pub(super) async fn assert_equal(&self, store: &Store) {
        let have = SessionCounts::new();
        for (co_value, _) in &self.authors {
            let id = co_value.id;
            assert_eq!(store.load(id).await.unwrap(), self.model.load(id).await.unwrap());
            for budget in [1, 100_000, usize::MAX] {
                let expected = self.model.read(id, &have, budget).await.unwrap();
                assert_eq!(store.read(id, &have, budget).await.unwrap(), expected);
            }
        }
        let ids = self.model.list(None, 100).await.unwrap();
        assert_eq!(store.list(None, 100).await.unwrap(), ids);
        let unsynced: Vec<Unsynced> = self.model.unsynced(None, 100).await.unwrap();
        assert_eq!(store.unsynced(None, 100).await.unwrap(), unsynced);
        // Backends may erase in steps of any size.
        for id in ids {
            for store in [store, &self.model] {
                while store.erase(id).await.unwrap().more {}
            }
        }
        let stats = store.stats().await.unwrap();
        let expected = self.model.stats().await.unwrap();
        assert_eq!(StoreStats { disk_bytes: None, ..stats }, expected);
    }

    /// A random write. It may fit the store or not.
    fn write(&mut self) -> Write {
        let (co_value, authors) = &mut self.authors[self.random.below(CO_VALUES)];
        let random = &mut self.random;
        if random.below(40) == 0 {
            let deleter = authors.last_mut().expect("there are authors");
            return co_value.tombstone(deleter.delete(co_value.id));
        }
        let count = random.below(AUTHORS);
        let mut sessions = Vec::new();
        for author in authors.iter_mut().take(count) {
            let mut forgotten = author.clone();
            // Now and then an extension gets lost, or comes twice.
            let author = if random.below(10) == 0 { &mut forgotten } else { author };
            let content = author.write(random.below(6), [12, 100, 3_000, 30_000][random.below(4)]);
            if random.below(20) == 0 {
                sessions.push(content.clone());
            }
            sessions.push(content);
        }
        if random.below(3) > 0 { co_value.create(sessions) } else { co_value.extend(sessions) }
    }

    /// Reads from a random position on.
    async fn read(&mut self, store: &Store) {
        let (co_value, authors) = &self.authors[self.random.below(CO_VALUES)];
        let mut have = SessionCounts::new();
        for author in authors {
            let count = usize::try_from(author.count()).expect("counts of a test are small");
            have.set(&author.session, self.random.below(count as u64 + 2) as u64);
        }
        let budget = [1, 10_000, 200_000][self.random.below(3)];
        let expected = self.model.read(co_value.id, &have, budget).await.unwrap();
        assert_eq!(store.read(co_value.id, &have, budget).await.unwrap(), expected);
    }

    fn update(&mut self) -> UnsyncedUpdate {
        let name = ["a", "b"][self.random.below(2)];
        let number = self.random.below(CO_VALUES) as u64;
        UnsyncedUpdate { entry: entry(number, name), synced: self.random.below(2) == 0 }
    }
}

/// A small pseudo-random generator (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % bound).expect("the bounds of a test are small")
    }
}
