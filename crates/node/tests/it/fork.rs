//! A forked session is told from a forged signature by what is stored.

use std::sync::Arc;

use downbeat_core::CoValue;
use downbeat_node::{LocalError, Node, Rejection};
use downbeat_protocol::Message;
use downbeat_storage::MemoryStorage;

use crate::given::{Author, Peer, SOON, count, map, transaction};

/// Content in memory, or nothing but what is in storage.
async fn a_fork_is_refused_and_its_author_sent_what_it_lost(content_cache: u64) {
    let node =
        Node::builder(Arc::new(MemoryStorage::new())).content_cache(content_cache).start().unwrap();
    let (header, author) = (map(), Author::new());
    let mut value = node.local().create(header.clone()).await.unwrap();
    for text in ["one", "two", "three"] {
        author.write(&mut value, text).await;
    }
    value.stored(SOON).await.unwrap();

    // The author has lost all but the first transaction, and goes on.
    let mut forked = CoValue::new(header);
    for text in ["one", "other", "another"] {
        forked.append(&author.session, transaction(text), author.signer()).unwrap();
    }
    let mut peer = Peer::connect(&node, 16).await;
    peer.send(Message::Load(forked.known_state())).await;
    for content in forked.content_since(None) {
        peer.send(Message::Content(content)).await;
    }
    let run = loop {
        let content = peer.content(value.id()).await;
        if let Some(run) = content.sessions.into_iter().find(|run| !run.transactions.is_empty()) {
            break run;
        }
    };
    assert_eq!(run.after, 1);
    assert_eq!(run.transactions, [transaction("two"), transaction("three")]);
    let copy = node.local().load(value.id(), SOON).await.unwrap();
    assert_eq!(copy.content().known_state(), value.content().known_state());
}

#[tokio::test]
async fn a_fork_of_what_is_in_memory_is_refused_and_its_author_sent_what_it_lost() {
    a_fork_is_refused_and_its_author_sent_what_it_lost(1 << 20).await;
}

#[tokio::test]
async fn a_fork_of_what_is_in_storage_is_refused_and_its_author_sent_what_it_lost() {
    a_fork_is_refused_and_its_author_sent_what_it_lost(0).await;
}

#[tokio::test]
async fn a_program_that_forks_its_session_is_told_where() {
    let node = Node::builder(Arc::new(MemoryStorage::new())).start().unwrap();
    let (header, author) = (map(), Author::new());
    let mut value = node.local().create(header.clone()).await.unwrap();
    author.write(&mut value, "one").await;
    value.stored(SOON).await.unwrap();
    let mut other = node.local().create(header).await.unwrap();
    author.write(&mut other, "another").await;
    let result = tokio::time::timeout(SOON, other.changed()).await.unwrap();
    assert!(matches!(result, Err(LocalError::Rejected(Rejection::Forked { at: 0 }))), "{result:?}");
    let copy = node.local().load(value.id(), SOON).await.unwrap();
    assert_eq!(count(copy.content(), &author), 1);
}
