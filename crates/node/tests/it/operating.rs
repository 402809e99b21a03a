//! What an operator can see and do.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_node::{Node, NodeError, StorageTrouble};
use downbeat_protocol::Signature;
use downbeat_storage::{FaultyStorage, InjectedFailure, MemoryStorage, Operation, StorageError};
use downbeat_transport::{Connection, PeerInfo, pair};
use tokio::sync::Notify;

use crate::given::{Author, PAIR, Peer, SOON, count, link, map, node, send, transaction, wait_for};

type Faulty = Arc<FaultyStorage<MemoryStorage>>;

fn faulty() -> (Faulty, Node) {
    let storage = Arc::new(FaultyStorage::new(MemoryStorage::new()));
    let node = Node::builder(storage.clone()).content_cache(0).start().unwrap();
    (storage, node)
}

fn broken() -> InjectedFailure {
    InjectedFailure::Fail(StorageError::io("no", io::Error::other("unplugged")))
}

#[tokio::test]
async fn a_node_is_ready_while_storage_answers_and_takes_content() {
    let (storage, node) = faulty();
    assert!(node.ready().await.unwrap().is_ready());
    storage.inject(Operation::Count, broken());
    let ready = node.ready().await.unwrap();
    assert!(matches!(ready.storage, Err(StorageTrouble::Fails(_))), "{ready:?}");
    storage.inject(Operation::Count, InjectedFailure::Wait(Arc::new(Notify::new())));
    let ready = node.ready().await.unwrap();
    assert!(matches!(ready.storage, Err(StorageTrouble::Silent)), "{ready:?}");

    for _ in 0..4 {
        storage.inject(Operation::Append, broken());
    }
    let mut value = node.local().create(map()).await.unwrap();
    let refuses = async {
        while node.ready().await.unwrap().is_ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, refuses).await.unwrap();
    let ready = node.ready().await.unwrap();
    assert!(matches!(ready.storage, Err(StorageTrouble::RefusesContent)), "{ready:?}");
    value.stored(SOON).await.unwrap();
    assert!(node.ready().await.unwrap().is_ready());
}

#[tokio::test]
async fn upstreams_are_told_of_with_what_they_lack() {
    let (edge, server, author) = (node(), node(), Author::new());
    link(&edge, &server, "server").await;
    let ready = edge.ready().await.unwrap();
    assert!(ready.is_connected() && ready.upstreams.len() == 1);
    let mut value = edge.local().create(map()).await.unwrap();
    value.synced(SOON).await.unwrap();
    let mut stats = edge.stats().await.unwrap();
    while stats.upstreams[0].unsynced > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        stats = edge.stats().await.unwrap();
    }
    server.shutdown().await.unwrap();
    author.write(&mut value, "meanwhile").await;
    value.stored(SOON).await.unwrap();
    let stats = edge.stats().await.unwrap();
    let upstream = &stats.upstreams[0];
    assert_eq!(
        (upstream.name.as_str(), upstream.connected, upstream.unsynced),
        ("server", false, 1)
    );
    assert!(upstream.since > ready.upstreams[0].since);
    assert!(!edge.ready().await.unwrap().is_connected());
}

#[tokio::test]
async fn a_storage_that_panics_is_a_storage_that_fails() {
    let (storage, node) = faulty();
    let author = Author::new();
    for operation in [Operation::Append, Operation::Load, Operation::Erasable] {
        storage.inject(operation, InjectedFailure::Panic);
    }
    let mut value = node.local().create(map()).await.unwrap();
    author.write(&mut value, "one").await;
    value.stored(SOON).await.unwrap();
    storage.inject(Operation::Read, InjectedFailure::Panic);
    let mut copy = node.local().load(value.id(), SOON).await.unwrap();
    wait_for(&mut copy, &author, 1).await;
    storage.inject(Operation::Count, InjectedFailure::Panic);
    let ready = node.ready().await.unwrap();
    let Err(StorageTrouble::Fails(error)) = ready.storage else { panic!("{ready:?}") };
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("injected"));
    storage.inject(Operation::Close, InjectedFailure::Panic);
    let closed = node.shutdown().await;
    assert!(matches!(closed, Err(NodeError::Close(_))), "{closed:?}");
}

#[tokio::test]
async fn a_shutdown_gives_up_after_its_time() {
    let storage = Arc::new(FaultyStorage::new(MemoryStorage::new()));
    let time = Duration::from_millis(300);
    let node = Node::builder(storage.clone()).drain_time(time).start().unwrap();
    storage.inject(Operation::Append, InjectedFailure::Wait(Arc::new(Notify::new())));
    let mut value = node.local().create(map()).await.unwrap();
    Author::new().write(&mut value, "never stored").await;
    let taken_in = async {
        while node.stats().await.unwrap().verification.count == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, taken_in).await.unwrap();
    let started = Instant::now();
    let ended = node.shutdown().await;
    assert!(matches!(ended, Err(NodeError::NotDrained(_))), "{ended:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn times_and_sizes_are_counted() {
    let (storage, node) = faulty();
    let author = Author::new();
    let mut value = node.local().create(map()).await.unwrap();
    value.stored(SOON).await.unwrap();
    storage.inject(Operation::Append, InjectedFailure::Delay(Duration::from_millis(120)));
    author.write(&mut value, "one").await;
    value.stored(SOON).await.unwrap();
    let stats = node.stats().await.unwrap();
    for (histogram, values) in
        [(&stats.verification, 1), (&stats.append, 2), (&stats.acknowledgement, 1)]
    {
        assert_eq!(histogram.count, values);
        assert!(histogram.sum > 0.0 && histogram.bounds.len() == histogram.counts.len());
    }
    assert!(stats.acknowledgement.sum >= 0.12 && stats.append.sum >= 0.12);
    let below = stats.acknowledgement.bounds.iter().position(|bound| *bound >= 0.1).unwrap();
    assert_eq!(stats.acknowledgement.counts[below], 0);
    assert_eq!(stats.batch_size.count, stats.storage.batches);
    assert_eq!(stats.stored.map(|stored| (stored.co_values, stored.transactions)), Some((1, 1)));
    assert_eq!(count(value.content(), &author), 1);
}

#[tokio::test]
async fn the_covalues_with_the_most_traffic_are_told() {
    let (node, author) = (node(), Author::new());
    let (mut large, mut small) =
        (node.local().create(map()).await.unwrap(), node.local().create(map()).await.unwrap());
    for _ in 0..10 {
        author.write(&mut small, "one").await;
        author.write(&mut large, &"x".repeat(10_000)).await;
    }
    large.stored(SOON).await.unwrap();
    small.stored(SOON).await.unwrap();
    let first = node.stats().await.unwrap().top[0];
    assert_eq!(first.id, large.id());
    assert!((90_000..=110_000).contains(&first.bytes), "{first:?}");
}

#[tokio::test]
async fn what_was_refused_lately_is_told_with_who_sent_it() {
    let node = node();
    let (ours, theirs) = pair(PAIR);
    let info = PeerInfo::new("203.0.113.7:1").with_label(Some("app".into()));
    node.connect(Connection { info, ..theirs }).await.unwrap();
    let mut peer = Peer::over(ours);
    let author = Author::new();
    let mut value = downbeat_core::CoValue::new(map());
    value.append(&author.session, transaction("forged"), author.signer()).unwrap();
    let mut forged = value.content_since(None);
    forged[0].sessions[0].last_signature = Signature::from_bytes(&[1; 64]);
    send(&mut peer, forged).await;
    peer.known().await;
    let stats = node.stats().await.unwrap();
    let refused = &stats.refused[0];
    assert_eq!((refused.peer.as_str(), refused.label.as_deref()), ("203.0.113.7:1", Some("app")));
    assert_eq!((refused.co_value, refused.reason), (Some(value.id()), "bad_signature"));
    assert_eq!(refused.session.as_deref(), Some(author.session.as_str()));
}
