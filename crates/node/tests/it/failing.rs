//! A storage that fails: nothing is acknowledged, and everything goes on by itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use downbeat_node::{LocalError, Node, StorageTrouble, SyncConfig};
use downbeat_storage::{FaultyStorage, InjectedFailure, MemoryStorage, Operation, StorageError};

use crate::given::{Author, SOON, count, link, map, node, wait_for};

type Faulty = Arc<FaultyStorage<MemoryStorage>>;

fn storage() -> Faulty {
    Arc::new(FaultyStorage::new(MemoryStorage::new()))
}

fn broken() -> StorageError {
    StorageError::io("cannot reach the disk", io::Error::other("unplugged"))
}

fn fail(storage: &Faulty, operation: Operation, times: usize) {
    for _ in 0..times {
        storage.inject(operation, InjectedFailure::Fail(broken()));
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_while_writing_fails_and_everything_afterwards() {
    let storage = storage();
    let node = Node::builder(storage.clone()).start().unwrap();
    let author = Author::new();
    fail(&storage, Operation::Append, 4);
    let mut value = node.local().create(map()).await.unwrap();
    author.write(&mut value, "one").await;
    let early = value.stored(Duration::from_secs(1)).await;
    assert!(matches!(early, Err(LocalError::NotAcknowledged(..))), "{early:?}");
    // Others see it meanwhile.
    let mut reader = node.local().load(value.id(), SOON).await.unwrap();
    wait_for(&mut reader, &author, 1).await;
    value.stored(SOON).await.unwrap();
}

#[tokio::test]
async fn a_store_that_would_take_nothing_makes_the_node_unready_although_nobody_writes() {
    let storage = storage();
    let node = Node::builder(storage.clone()).start().unwrap();
    let gone = StorageError::Gone { path: "store".into(), reason: "it was deleted".to_owned() };
    // One for the node's own look, which comes at any time, and one for this.
    storage.inject(Operation::Check, InjectedFailure::Fail(gone.clone()));
    storage.inject(Operation::Check, InjectedFailure::Fail(gone));
    let ready = node.ready().await.unwrap();
    assert!(!ready.is_ready());
    let trouble = ready.storage.unwrap_err();
    assert!(matches!(&trouble, StorageTrouble::Fails(StorageError::Gone { .. })), "{trouble:?}");
    tokio::time::timeout(SOON, async {
        while !node.ready().await.unwrap().is_ready() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it is ready again");
}

#[tokio::test]
async fn a_write_that_failed_and_was_applied_all_the_same_is_acknowledged() {
    let storage = storage();
    let node = Node::builder(storage.clone()).start().unwrap();
    let author = Author::new();
    let mut value = node.local().create(map()).await.unwrap();
    value.stored(SOON).await.unwrap();
    storage.inject(Operation::Append, InjectedFailure::FailAfter(broken()));
    author.write(&mut value, "one").await;
    value.stored(SOON).await.unwrap();
    author.write(&mut value, "two").await;
    value.stored(SOON).await.unwrap();
}

#[tokio::test]
async fn a_covalue_that_cannot_be_looked_up_is_served_later() {
    let storage = storage();
    let first = Node::builder(storage.clone()).start().unwrap();
    let author = Author::new();
    let mut value = first.local().create(map()).await.unwrap();
    author.write(&mut value, "one").await;
    value.stored(SOON).await.unwrap();
    drop(first);
    fail(&storage, Operation::Load, 2);
    let second = Node::builder(storage.clone()).start().unwrap();
    let copy = tokio::time::timeout(SOON, second.local().load(value.id(), SOON)).await.unwrap();
    assert_eq!(count(copy.unwrap().content(), &author), 1);
}

#[tokio::test]
async fn content_that_cannot_be_read_is_sent_later() {
    let storage = storage();
    let node = Node::builder(storage.clone()).content_cache(0).start().unwrap();
    let author = Author::new();
    let mut value = node.local().create(map()).await.unwrap();
    author.write(&mut value, "one").await;
    value.stored(SOON).await.unwrap();
    fail(&storage, Operation::Read, 2);
    let copy = tokio::time::timeout(SOON, node.local().load(value.id(), SOON)).await.unwrap();
    assert_eq!(count(copy.unwrap().content(), &author), 1);
}

#[tokio::test]
async fn content_whose_log_cannot_be_read_is_verified_later() {
    let storage = storage();
    let config = SyncConfig { warm_chains: 0, ..SyncConfig::default() };
    let node = Node::builder(storage.clone()).content_cache(0).sync_config(config).start().unwrap();
    let author = Author::new();
    let mut value = node.local().create(map()).await.unwrap();
    author.write(&mut value, "one").await;
    value.stored(SOON).await.unwrap();
    fail(&storage, Operation::Read, 2);
    author.write(&mut value, "two").await;
    value.stored(SOON).await.unwrap();
}

#[tokio::test]
async fn what_an_upstream_lacks_is_looked_up_again() {
    let storage = storage();
    let author = Author::new();
    let (first, server) = (Node::builder(storage.clone()).start().unwrap(), node());
    link(&first, &server, "server").await;
    let mut before = first.local().create(map()).await.unwrap();
    before.synced(SOON).await.unwrap();
    server.shutdown().await.unwrap();
    let mut value = first.local().create(map()).await.unwrap();
    author.write(&mut value, "unsynced").await;
    value.stored(SOON).await.unwrap();
    drop(first);

    fail(&storage, Operation::Unsynced, 2);
    let (second, server) = (Node::builder(storage.clone()).start().unwrap(), node());
    link(&second, &server, "server").await;
    second.local().synced(value.content().known_state(), SOON).await.unwrap();
}
