//! What a node counts is what it did.

use std::io;
use std::sync::Arc;

use downbeat_core::CoValue;
use downbeat_node::Node;
use downbeat_protocol::Signature;
use downbeat_storage::{Fault, FaultyStorage, MemoryStorage, Operation, StorageError};

use crate::given::{Author, Peer, SOON, link, map, node, send, transaction};

#[tokio::test]
async fn messages_bytes_and_peers_are_counted_by_their_kind() {
    let (edge, server, author) = (node(), node(), Author::new());
    link(&edge, &server, "server").await;
    let mut value = edge.local().create(map()).await.unwrap();
    author.write(&mut value, "one").await;
    value.synced(SOON).await.unwrap();

    let stats = edge.stats().await.unwrap();
    assert_eq!((stats.peers.clients, stats.peers.upstreams, stats.peers.local), (0, 1, 1));
    let size = transaction("one").json().len() as u64;
    assert_eq!(stats.traffic.content_received, size);
    assert_eq!(stats.traffic.content_sent, size);
    assert!(stats.received.content > 0 && stats.sent.content > 0);
    assert!(stats.received.known > 0, "the upstream has acknowledged");
    assert_eq!(stats.memory.warm_co_values, 1);
    assert!(stats.memory.content_bytes > size);
    assert_eq!(stats.storage.bytes, size);
    assert_eq!(stats.batch_size.count, stats.storage.batches);
    assert_eq!(server.stats().await.unwrap().peers.clients, 1);
}

#[tokio::test]
async fn a_forgery_is_told_from_a_fork() {
    let (node, author) = (node(), Author::new());
    let header = map();
    let mut value = node.local().create(header.clone()).await.unwrap();
    author.write(&mut value, "one").await;
    value.stored(SOON).await.unwrap();

    let mut fork = CoValue::new(header);
    fork.append(&author.session, transaction("other"), author.signer()).unwrap();
    let mut peer = Peer::connect(&node, 16).await;
    send(&mut peer, fork.content_since(None)).await;

    let mut forgery = value.content().content_since(None);
    forgery[0].sessions[0].after = 1;
    forgery[0].sessions[0].last_signature = Signature::from_bytes(&[1; 64]);
    let mut other = Peer::connect(&node, 16).await;
    send(&mut other, forgery).await;

    let counted = async {
        loop {
            let rejections = node.stats().await.unwrap().rejections;
            if rejections.forked + rejections.bad_signature >= 2 {
                return rejections;
            }
            tokio::task::yield_now().await;
        }
    };
    let rejections = tokio::time::timeout(SOON, counted).await.unwrap();
    assert_eq!((rejections.forked, rejections.bad_signature), (1, 1));
}

#[tokio::test]
async fn a_failing_storage_shows() {
    let storage = Arc::new(FaultyStorage::new(MemoryStorage::new()));
    let node = Node::builder(storage.clone()).content_cache(0).start().unwrap();
    let broken = || Fault::Fail(StorageError::io("no", io::Error::other("unplugged")));
    storage.inject(Operation::Append, broken());
    let mut value = node.local().create(map()).await.unwrap();
    Author::new().write(&mut value, "one").await;
    value.stored(SOON).await.unwrap();
    storage.inject(Operation::Read, broken());
    node.local().load(value.id(), SOON).await.unwrap();
    let stats = node.stats().await.unwrap();
    assert_eq!((stats.storage.write_retries, stats.storage.read_retries), (1, 1));
}
