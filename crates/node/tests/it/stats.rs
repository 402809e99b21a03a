//! What a node counts is what it did.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use downbeat_core::CoValue;
use downbeat_node::{DisconnectStats, EndStats, Node};
use downbeat_protocol::Signature;
use downbeat_storage::{FaultyStorage, InjectedFailure, MemoryStorage, Operation, StorageError};
use downbeat_transport::{
    CloseCode, CloseReason, Connection, Incoming, Listener, Receiver, TransportError, pair,
};
use downbeat_transport_ws::{WsConnector, WsListener, WsOptions};

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

/// Nothing comes, and then this error.
struct Fails(Option<TransportError>);

#[async_trait]
impl Receiver for Fails {
    async fn receive(&mut self) -> Result<Option<Incoming>, TransportError> {
        self.0.take().map_or(Ok(None), Err)
    }
}

/// Waits until as many connections have ended as were.
async fn all_ended(node: &Node, wanted: u64) -> DisconnectStats {
    let ended = async {
        loop {
            let ends = node.stats().await.unwrap().disconnects;
            let all = ends.clients.iter().chain(ends.upstreams.iter());
            if all.map(|(_, count)| count).sum::<u64>() >= wanted {
                return ends;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, ended).await.unwrap()
}

#[tokio::test]
async fn why_connections_end_is_counted() {
    let node = node();
    let limit = Duration::from_secs(1);
    let timed_out = io::Error::from(io::ErrorKind::TimedOut);
    let errors = [
        TransportError::Silent { limit },
        TransportError::Io(timed_out),
        TransportError::TimedOut { what: "a frame", limit },
        TransportError::Disconnected,
        TransportError::FrameTooLarge { max: 1 },
        TransportError::Protocol("a rule".to_owned()),
    ];
    let mut kept = Vec::new();
    for error in errors {
        let (ours, theirs) = pair(16);
        let receiver = Box::new(Fails(Some(error)));
        node.connect(Connection { receiver, ..theirs }).await.unwrap();
        kept.push(ours);
    }
    let (up, down) = pair(16);
    node.connect_upstream("server", up).await.unwrap();
    let mut down = Peer::over(down);
    down.sender.close(CloseReason::new(CloseCode::Normal, "done")).await.unwrap();
    let (ours, theirs) = pair(16);
    node.connect(theirs).await.unwrap();
    kept.push(ours);
    let reason = CloseReason::new(CloseCode::PolicyViolation, "not welcome");
    while node.disconnect(|_| true, reason.clone()).await.unwrap() == 0 {}

    let DisconnectStats { clients, upstreams, .. } = all_ended(&node, 8).await;
    assert_eq!((upstreams.peer_closed, upstreams.iter().map(|(_, count)| count).sum()), (1, 1));
    assert_eq!((clients.silent, clients.too_slow, clients.broken), (2, 1, 1));
    assert_eq!((clients.broke_rules, clients.closed, clients.peer_closed), (2, 1, 0));
}

/// A server that accepts, speaks once, and then neither speaks nor closes.
async fn silent_server(listener: WsListener) -> Vec<Connection> {
    let mut listener = listener;
    let mut kept = Vec::new();
    loop {
        let mut connection = listener.accept().await.unwrap();
        connection.sender.keep_alive().await.unwrap();
        kept.push(connection);
    }
}

#[tokio::test]
async fn a_silent_upstream_is_noticed_counted_and_connected_again() {
    let listener = WsListener::bind("127.0.0.1:0", WsOptions::default()).await.unwrap();
    let url = listener.url();
    let options = WsOptions { silence_timeout: Duration::from_millis(300), ..WsOptions::default() };
    let connector = Arc::new(WsConnector::new(&url, options).unwrap());
    let node = Node::builder(Arc::new(MemoryStorage::new())).upstream(connector).start().unwrap();
    let serving = tokio::spawn(silent_server(listener));
    let ends = all_ended(&node, 2).await;
    assert_eq!((ends.upstreams.silent, ends.clients), (2, EndStats::default()));
    serving.abort();
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
    let broken = || InjectedFailure::Fail(StorageError::io("no", io::Error::other("unplugged")));
    storage.inject(Operation::Append, broken());
    let mut value = node.local().create(map()).await.unwrap();
    Author::new().write(&mut value, "one").await;
    value.stored(SOON).await.unwrap();
    storage.inject(Operation::Read, broken());
    node.local().load(value.id(), SOON).await.unwrap();
    let stats = node.stats().await.unwrap();
    assert_eq!((stats.storage.write_retries, stats.storage.read_retries), (1, 1));
}
