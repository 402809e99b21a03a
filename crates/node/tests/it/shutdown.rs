//! A shutdown finishes what was taken in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_node::{LocalError, Node};
use downbeat_storage::MemoryStorage;
use downbeat_storage_sled::SledStorage;

use crate::given::{Author, Peer, SOON, count, map, transaction};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_nothing_that_was_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::builder(Arc::new(SledStorage::open(dir.path()).unwrap())).start().unwrap();
    let mut writers = Vec::new();
    for _ in 0..8 {
        let local = node.local();
        writers.push(tokio::spawn(async move {
            let author = Author::new();
            let mut value = local.create(map()).await.unwrap();
            let mut acknowledged = 0;
            loop {
                let transactions = (0..5).map(|_| transaction("load"));
                let written = value.append(&author.session, transactions, author.signer()).await;
                let result = match written {
                    Ok(()) => value.stored(SOON).await,
                    Err(error) => Err(error),
                };
                match result {
                    Ok(()) => acknowledged = count(value.content(), &author),
                    Err(LocalError::ShutDown) => return (value.id(), author, acknowledged),
                    Err(error) => panic!("{error}"),
                }
            }
        }));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    node.shutdown().await.unwrap();

    let node = Node::builder(Arc::new(SledStorage::open(dir.path()).unwrap())).start().unwrap();
    for writer in writers {
        let (id, author, acknowledged) = writer.await.unwrap();
        assert!(acknowledged > 0, "the test wrote nothing");
        let value = node.local().load(id, SOON).await.unwrap();
        assert!(count(value.content(), &author) >= acknowledged);
    }
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn peers_that_read_nothing_hold_a_shutdown_up_for_three_seconds() {
    let storage = Arc::new(MemoryStorage::new());
    let node = Node::builder(storage.clone()).start().unwrap();
    let author = Author::new();
    let mut value = node.local().create(map()).await.unwrap();
    let piece = "x".repeat(10_000);
    let transactions = (0..200).map(|_| transaction(&piece));
    value.append(&author.session, transactions, author.signer()).await.unwrap();
    value.stored(SOON).await.unwrap();
    let mut stuck = Vec::new();
    for _ in 0..50 {
        let mut peer = Peer::connect(&node, 1).await;
        peer.load(value.id()).await;
        stuck.push(peer);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let started = Instant::now();
    // Everything is stored, so this is in order.
    node.shutdown().await.unwrap();
    // Two seconds more for a busy machine; to wait for telling and closing in turn takes longer.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // Nothing of the node is left, though the peer is still there.
    let ended = async {
        while Arc::strong_count(&storage) > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("something still runs");
    drop(stuck);
}

#[tokio::test]
async fn no_thread_of_the_node_is_left_when_it_has_been_shut_down() {
    for _ in 0..20 {
        let storage = Arc::new(MemoryStorage::new());
        let node = Node::builder(storage.clone()).start().unwrap();
        node.shutdown().await.unwrap();
        // The verifiers hold it, and so does everything else that could still run.
        assert_eq!(Arc::strong_count(&storage), 1);
    }
}

#[tokio::test]
async fn a_node_at_work_has_not_failed() {
    let node = Node::builder(Arc::new(MemoryStorage::new())).start().unwrap();
    let mut value = node.local().create(map()).await.unwrap();
    value.stored(SOON).await.unwrap();
    let failed = tokio::time::timeout(Duration::from_millis(100), node.failed()).await;
    assert!(failed.is_err());
}

#[tokio::test]
async fn dropping_a_node_ends_its_connections() {
    let node = Node::builder(Arc::new(MemoryStorage::new())).start().unwrap();
    let mut value = node.local().create(map()).await.unwrap();
    value.stored(SOON).await.unwrap();
    drop(node);
    let ended = tokio::time::timeout(Duration::from_secs(5), value.changed()).await;
    assert!(matches!(ended, Ok(Err(LocalError::ShutDown))));
}
