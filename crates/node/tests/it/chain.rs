//! Three nodes: a leaf, an edge, and a core.

use std::path::Path;
use std::sync::Arc;

use downbeat_node::Node;
use downbeat_storage::MemoryStorage;
use downbeat_storage_sled::SledStorage;
use downbeat_transport::Listener;
use downbeat_transport_ws::{WsConnector, WsListener, WsOptions};

use crate::given::{Author, SOON, count, link, map, node, wait_for};

#[tokio::test]
async fn content_goes_up_and_down_the_whole_chain() {
    let (leaf, edge, core) = (node(), node(), node());
    link(&edge, &core, "core").await;
    link(&leaf, &edge, "edge").await;
    let (author, other) = (Author::new(), Author::new());
    let mut value = leaf.local().create(map()).await.unwrap();
    author.write(&mut value, "up").await;
    value.synced(SOON).await.unwrap();
    let mut top = core.local().load(value.id(), SOON).await.unwrap();
    wait_for(&mut top, &author, 1).await;
    other.write(&mut top, "down").await;
    wait_for(&mut value, &other, 1).await;

    let mut made_above = core.local().create(map()).await.unwrap();
    other.write(&mut made_above, "above").await;
    made_above.stored(SOON).await.unwrap();
    let copy = leaf.local().load(made_above.id(), SOON).await.unwrap();
    assert_eq!(count(copy.content(), &other), 1);
}

async fn listening(dir: &Path, address: &str) -> (Node, String) {
    let listener = WsListener::bind(address, WsOptions::default()).await.unwrap();
    let url = listener.url();
    let storage = Arc::new(SledStorage::open(dir).unwrap());
    (Node::builder(storage).listen(Box::new(listener)).start().unwrap(), url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_comes_back_gets_what_it_missed_and_is_watched_again() {
    let dir = tempfile::tempdir().unwrap();
    let (core, url) = listening(dir.path(), "127.0.0.1:0").await;
    let connector = WsConnector::new(&url, WsOptions::default()).unwrap();
    let edge = Node::builder(Arc::new(MemoryStorage::new()))
        .upstream(Arc::new(connector))
        .start()
        .unwrap();
    let leaf = node();
    link(&leaf, &edge, "edge").await;
    let (author, other) = (Author::new(), Author::new());
    let mut value = leaf.local().create(map()).await.unwrap();
    author.write(&mut value, "one").await;
    let state = value.content().known_state();
    value.synced(SOON).await.unwrap();
    edge.local().synced(state, SOON).await.unwrap();

    core.shutdown().await.unwrap();
    author.write(&mut value, "two").await;
    value.synced(SOON).await.unwrap();
    let address = url.trim_start_matches("ws://").trim_end_matches('/').to_owned();
    let (core, _) = listening(dir.path(), &address).await;
    edge.local().synced(value.content().known_state(), SOON).await.unwrap();
    let mut top = core.local().load(value.id(), SOON).await.unwrap();
    assert_eq!(count(top.content(), &author), 2);
    other.write(&mut top, "down").await;
    wait_for(&mut value, &other, 1).await;
}
