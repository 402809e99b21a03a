//! A peer that floods is held back.

use std::sync::Arc;
use std::time::Duration;

use downbeat_core::CoValue;
use downbeat_node::Node;
use downbeat_protocol::Message;
use downbeat_storage::{FaultyStorage, InjectedFailure, MemoryStorage, Operation};
use tokio::sync::Notify;

use crate::given::{Author, Peer, SOON, map, node, transaction};

#[tokio::test]
async fn a_peer_is_read_no_further_while_its_content_is_not_stored() {
    /// What a peer may have in the node's care (8 MiB), and some on the way.
    const MOST: usize = 10 << 20;
    const PIECE: usize = 100_000;

    let storage = Arc::new(FaultyStorage::new(MemoryStorage::new()));
    let node = Node::builder(storage.clone()).start().unwrap();
    let gate = Arc::new(Notify::new());
    storage.inject(Operation::Append, InjectedFailure::Wait(Arc::clone(&gate)));

    let (author, mut value) = (Author::new(), CoValue::new(map()));
    let piece = "x".repeat(PIECE);
    for _ in 0..200 {
        value.append(&author.session, transaction(&piece), author.signer()).unwrap();
    }
    let mut peer = Peer::connect(&node, 1).await;
    let mut sent = 0;
    let mut messages = value.content_since(None).into_iter().map(Message::Content);
    let mut held_back = None;
    for message in messages.by_ref() {
        let sending = peer.sender.send(std::slice::from_ref(&message));
        if tokio::time::timeout(Duration::from_secs(1), sending).await.is_err() {
            held_back = Some(message);
            break;
        }
        sent += PIECE;
    }
    assert!(held_back.is_some(), "nothing was held back");
    assert!(sent < MOST, "{sent} bytes were taken");

    // Others are served meanwhile, and everything goes on when storage does.
    gate.notify_one();
    for message in held_back.into_iter().chain(messages) {
        peer.send(message).await;
    }
    while peer.known().await != value.known_state() {}
}

#[tokio::test]
async fn a_flood_does_not_hold_up_others() {
    let node = node();
    let author = Author::new();
    let mut flood = node.local().create(map()).await.unwrap();
    let mut calm = node.local().create(map()).await.unwrap();
    let piece = "x".repeat(50_000);
    let flooding = async {
        for _ in 0..100 {
            author.write(&mut flood, &piece).await;
        }
        flood.stored(SOON).await.unwrap();
    };
    let other = Author::new();
    let writing = async {
        other.write(&mut calm, "one").await;
        calm.stored(SOON).await.unwrap();
    };
    tokio::join!(flooding, writing);
}
