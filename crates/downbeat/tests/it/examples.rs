//! The example of an embedded node runs.

use std::time::Duration;

use downbeat::{Node, SledStorage};

#[path = "../../examples/embed.rs"]
mod embed;

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_node_stores_what_its_program_writes() {
    let directory = tempfile::tempdir().unwrap();
    let id = embed::run(directory.path()).await.unwrap();
    let node = Node::builder(SledStorage::open(directory.path()).unwrap()).start().unwrap();
    let map = node.local().load(id, Duration::from_secs(10)).await.unwrap();
    let log = map.content().sessions().next().unwrap();
    assert!(log.transactions()[0].changes().unwrap().contains("hello"));
    node.shutdown().await.unwrap();
}
