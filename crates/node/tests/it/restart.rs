//! What is acknowledged is there after a restart.

use std::path::Path;
use std::sync::Arc;

use downbeat_node::Node;
use downbeat_storage_sled::SledStorage;

use crate::given::{Author, SOON, count, link, map, node};

fn over_sled(dir: &Path) -> Node {
    Node::builder(Arc::new(SledStorage::open(dir).unwrap())).start().unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_and_can_be_written_on() {
    let dir = tempfile::tempdir().unwrap();
    let author = Author::new();
    let first = over_sled(dir.path());
    let mut value = first.local().create(map()).await.unwrap();
    author.write(&mut value, "one").await;
    value.stored(SOON).await.unwrap();
    first.shutdown().await.unwrap();

    let second = over_sled(dir.path());
    let mut value = second.local().load(value.id(), SOON).await.unwrap();
    assert_eq!(count(value.content(), &author), 1);
    author.write(&mut value, "two").await;
    value.stored(SOON).await.unwrap();
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_an_upstream_has_not_acknowledged_is_given_to_it_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let author = Author::new();
    let first = over_sled(dir.path());
    let server = node();
    link(&first, &server, "server").await;
    // The upstream is known by now, and goes away.
    let mut before = first.local().create(map()).await.unwrap();
    before.synced(SOON).await.unwrap();
    server.shutdown().await.unwrap();
    let mut value = first.local().create(map()).await.unwrap();
    author.write(&mut value, "unsynced").await;
    value.stored(SOON).await.unwrap();
    first.shutdown().await.unwrap();

    let (second, server) = (over_sled(dir.path()), node());
    link(&second, &server, "server").await;
    let state = value.content().known_state();
    second.local().synced(state, SOON).await.unwrap();
    let copy = server.local().load(value.id(), SOON).await.unwrap();
    assert_eq!(count(copy.content(), &author), 1);
    second.shutdown().await.unwrap();
}
