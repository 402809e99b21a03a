//! Large CoValues are never in memory as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use downbeat_node::Node;
use downbeat_protocol::{CoValueId, KnownState, SessionContent, SessionCounts};
use downbeat_storage::{
    Erased, MemoryStorage, Outcome, Storage, StorageError, StoreStats, StoredCoValue, Unsynced,
    UnsyncedUpdate, Write,
};

use crate::given::{Author, Peer, SOON, map, transaction};

/// A memory store that counts the bytes that are read.
struct Counting {
    inner: MemoryStorage,
    read: AtomicU64,
}

#[async_trait]
impl Storage for Counting {
    async fn append(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StorageError> {
        self.inner.append(batch).await
    }
    async fn load(&self, id: CoValueId) -> Result<Option<StoredCoValue>, StorageError> {
        self.inner.load(id).await
    }
    async fn read(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError> {
        let runs = self.inner.read(id, have, max_bytes).await?;
        let transactions = runs.iter().flat_map(|run| &run.transactions);
        let bytes: usize = transactions.map(|transaction| transaction.json().len()).sum();
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(runs)
    }
    async fn list(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        self.inner.list(after, limit).await
    }
    async fn count(&self) -> Result<u64, StorageError> {
        self.inner.count().await
    }
    async fn erase(&self, id: CoValueId) -> Result<Erased, StorageError> {
        self.inner.erase(id).await
    }
    async fn erasable(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        self.inner.erasable(after, limit).await
    }
    async fn track_unsynced(&self, updates: Vec<UnsyncedUpdate>) -> Result<(), StorageError> {
        self.inner.track_unsynced(updates).await
    }
    async fn unsynced(
        &self,
        after: Option<Unsynced>,
        limit: usize,
    ) -> Result<Vec<Unsynced>, StorageError> {
        self.inner.unsynced(after, limit).await
    }
    async fn stats(&self) -> Result<StoreStats, StorageError> {
        self.inner.stats().await
    }
    async fn close(&self) -> Result<(), StorageError> {
        self.inner.close().await
    }
}

#[tokio::test]
async fn a_reader_that_takes_no_piece_has_only_a_few_read_from_storage() {
    /// Of the CoValue.
    const TRANSACTIONS: u64 = 800;
    /// The line's messages, and two turns.
    const MOST: u64 = 2 << 20;

    let storage = Arc::new(Counting { inner: MemoryStorage::new(), read: AtomicU64::new(0) });
    let node = Node::builder(storage.clone()).content_cache(0).start().unwrap();
    let author = Author::new();
    let mut value = node.local().create(map()).await.unwrap();
    let piece = "x".repeat(10_000);
    for _ in 0..TRANSACTIONS / 10 {
        let transactions = (0..10).map(|_| transaction(&piece));
        value.append(&author.session, transactions, author.signer()).await.unwrap();
    }
    value.stored(SOON).await.unwrap();

    let before = storage.read.load(Ordering::Relaxed);
    let have = KnownState::empty(value.id());
    let mut updates = node.local().updates(have).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let read = storage.read.load(Ordering::Relaxed) - before;
    assert!(read > 0 && read < MOST, "{read} bytes were read");

    let mut reached = 0;
    while reached < TRANSACTIONS {
        let content = tokio::time::timeout(SOON, updates.next()).await.unwrap().unwrap();
        for run in content.sessions {
            assert_eq!(run.after, reached, "the pieces follow each other");
            reached = run.end();
        }
    }
}

#[tokio::test]
async fn small_edits_overtake_a_large_stream() {
    let node = Node::builder(Arc::new(MemoryStorage::new())).start().unwrap();
    let author = Author::new();
    let mut large = node.local().create(map()).await.unwrap();
    let piece = "x".repeat(20_000);
    let transactions = (0..200).map(|_| transaction(&piece));
    large.append(&author.session, transactions, author.signer()).await.unwrap();
    large.stored(SOON).await.unwrap();
    let mut small = node.local().create(map()).await.unwrap();
    small.stored(SOON).await.unwrap();

    let mut peer = Peer::connect(&node, 4).await;
    peer.load(small.id()).await;
    peer.load(large.id()).await;
    peer.content(large.id()).await;
    author.write(&mut small, "quick").await;
    small.stored(SOON).await.unwrap();
    let mut reached = 0;
    let before_it = loop {
        let downbeat_protocol::Message::Content(content) = peer.next().await else { continue };
        let run = content.sessions.first();
        if content.id == small.id() && run.is_some() {
            break reached;
        }
        reached = run.map_or(reached, downbeat_protocol::SessionContent::end);
    };
    // The messages that wait in the connection, and the turn that is being written.
    assert!(before_it < 100, "{before_it} of the 200 transactions came first");
}
