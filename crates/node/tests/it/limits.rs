//! What peers may do, and what happens when they do more.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use downbeat_core::CoValue;
use downbeat_crypto::delete_session_id;
use downbeat_node::{KeyLimits, Node, NodeBuilder, NodeLimits, Rates};
use downbeat_protocol::{KnownState, Message, Owner};
use downbeat_storage::MemoryStorage;
use downbeat_transport::{
    CloseCode, CloseReason, Connection, PeerInfo, Sender, TransportError, pair,
};

use crate::given::{Author, Peer, SOON, count, map, rate, transaction};

fn builder(limits: NodeLimits) -> NodeBuilder {
    Node::builder(Arc::new(MemoryStorage::new())).limits(limits)
}

/// A client that came with the key of this name.
async fn connect_as(node: &Node, label: &str, capacity: usize) -> Peer {
    let (ours, theirs) = pair(capacity);
    let info = PeerInfo::new(format!("client with {label}")).with_label(Some(label.into()));
    node.connect(Connection { info, ..theirs }).await.unwrap();
    Peer::over(ours)
}

/// A LOAD of a CoValue that does not exist.
fn load() -> Message {
    Message::Load(KnownState::empty(CoValue::new(map()).id()))
}

#[tokio::test]
async fn who_sends_too_fast_is_read_more_slowly_and_loses_nothing() {
    let limits = NodeLimits { connection: rate(100), ..NodeLimits::default() };
    let node = builder(limits).start().unwrap();
    let mut peer = Peer::connect(&node, 1).await;
    let mut other = Peer::connect(&node, 1).await;
    // Made before, because on a busy machine that would be slower than the rate.
    let loads: Vec<_> = (0..550).map(|_| load()).collect();
    let started = Instant::now();
    // Five seconds' worth goes through at once, the rest in half a second.
    for load in loads {
        peer.send(load).await;
        peer.known().await;
    }
    let took = started.elapsed();
    assert!(took > Duration::from_millis(300), "{took:?}");
    // Other clients are not held back.
    other.send(load()).await;
    other.known().await;
    let stats = node.stats().await.unwrap();
    assert!(stats.limits.connection_rate > 0 && stats.limits.connection_rate_micros > 0);
    assert_eq!(stats.limits.closed_for_rate, 0);
}

#[tokio::test]
async fn bytes_are_limited_as_messages_are() {
    let bytes = Rates { messages: None, bytes: NonZeroU64::new(10_000) };
    let node = builder(NodeLimits { connection: bytes, ..NodeLimits::default() }).start().unwrap();
    let author = Author::new();
    let mut peer = Peer::connect(&node, 4).await;
    let mut value = CoValue::new(map());
    let mut sent = KnownState::empty(value.id());
    let started = Instant::now();
    for _ in 0..6 {
        value.append(&author.session, transaction(&"x".repeat(9_500)), author.signer()).unwrap();
        for content in value.content_since(Some(&sent)) {
            peer.send(Message::Content(content)).await;
        }
        sent = value.known_state();
    }
    while peer.known().await.sessions.get(&author.session) < 6 {}
    assert!(started.elapsed() > Duration::from_millis(300), "{:?}", started.elapsed());
    assert!(node.stats().await.unwrap().limits.connection_rate > 0);
}

#[tokio::test]
async fn who_goes_on_for_too_long_is_closed() {
    let patience = Duration::from_millis(300);
    let limits = NodeLimits { connection: rate(50), patience, ..NodeLimits::default() };
    let node = builder(limits).start().unwrap();
    let mut peer = Peer::connect(&node, 1).await;
    let flood = async { while peer.sender.send(&[load()]).await.is_ok() {} };
    let drain = async { while peer.receiver.receive().await.is_ok_and(|frame| frame.is_some()) {} };
    let both = async { tokio::join!(flood, drain) };
    tokio::time::timeout(SOON, both).await.expect("the connection stays open");
    assert_eq!(node.stats().await.unwrap().limits.closed_for_rate, 1);
}

#[tokio::test]
async fn connections_with_one_key_share_its_rate() {
    let key = KeyLimits { rates: rate(20), ..KeyLimits::default() };
    let node = builder(NodeLimits { key, ..NodeLimits::default() }).start().unwrap();
    let mut peers = Vec::new();
    for _ in 0..4 {
        peers.push(connect_as(&node, "shared", 1).await);
    }
    let mut free = connect_as(&node, "free", 1).await;
    node.limit_key("free", Some(KeyLimits::default()));
    let started = Instant::now();
    for _ in 0..28 {
        for peer in &mut peers {
            peer.send(load()).await;
            peer.known().await;
        }
        free.send(load()).await;
        free.known().await;
    }
    // 112 messages: 100 are free.
    assert!(started.elapsed() > Duration::from_millis(400), "{:?}", started.elapsed());
    let stats = node.stats().await.unwrap();
    assert!(stats.limits.key_rate > 0);
    assert_eq!(stats.limits.connection_rate, 0);
    let keys: Vec<_> = stats.keys.iter().map(|key| (&*key.label, key.connections)).collect();
    assert_eq!(keys, [("free", 1), ("shared", 4)]);
}

#[tokio::test]
async fn who_subscribes_to_too_much_is_closed() {
    let node = builder(NodeLimits { subscriptions: 3, ..NodeLimits::default() }).start().unwrap();
    let mut peer = Peer::connect(&node, 16).await;
    for _ in 0..3 {
        peer.send(load()).await;
        peer.known().await;
    }
    peer.send(load()).await;
    peer.ended().await;
    let stats = node.stats().await.unwrap();
    assert_eq!(stats.limits.closed_for_subscriptions, 1);
    assert_eq!(stats.rejections.too_many_subscriptions, 1);
}

#[tokio::test]
async fn a_key_stores_as_much_as_its_quota_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let usage = dir.path().join("usage.json");
    let key = KeyLimits { stored_bytes: Some(2_000), ..KeyLimits::default() };
    let start =
        || builder(NodeLimits { key, ..NodeLimits::default() }).usage_file(&usage).start().unwrap();
    let author = Author::new();
    let mut value = CoValue::new(map());
    let node = start();
    let mut peer = connect_as(&node, "key", 16).await;
    let mut acknowledged = 0;
    let mut sent = KnownState::empty(value.id());
    for _ in 0..10 {
        value.append(&author.session, transaction(&"x".repeat(300)), author.signer()).unwrap();
        for content in value.content_since(Some(&sent)) {
            peer.send(Message::Content(content)).await;
            acknowledged = peer.known().await.sessions.get(&author.session);
        }
        sent = value.known_state();
    }
    assert!((2..6).contains(&acknowledged), "{acknowledged}");
    let stats = node.stats().await.unwrap();
    assert!(stats.limits.key_quota > 0 && stats.rejections.over_quota > 0);
    assert!((1_000..=2_000).contains(&stats.keys[0].stored_bytes), "{:?}", stats.keys);
    node.shutdown().await.unwrap();

    let node = start();
    let mut peer = connect_as(&node, "key", 16).await;
    let mut other = CoValue::new(map());
    other.append(&author.session, transaction(&"x".repeat(1_500)), author.signer()).unwrap();
    for content in other.content_since(None) {
        peer.send(Message::Content(content)).await;
    }
    assert!(!peer.known().await.header);
    // Another key has its own.
    let mut peer = connect_as(&node, "other", 16).await;
    for content in other.content_since(None) {
        peer.send(Message::Content(content)).await;
    }
    assert!(peer.known().await.header);
}

#[tokio::test]
async fn a_delete_session_that_deletes_nothing_counts_for_the_quota() {
    let key = KeyLimits { stored_bytes: Some(2_000), ..KeyLimits::default() };
    let node = builder(NodeLimits { key, ..NodeLimits::default() }).start().unwrap();
    let author = Author::new();
    let session = delete_session_id(&Owner::Agent(author.secret.agent()), [7; 7]);
    let mut value = CoValue::new(map());
    value.append(&session, transaction(&"x".repeat(3_000)), author.signer()).unwrap();
    let mut peer = connect_as(&node, "key", 16).await;
    for content in value.content_since(None) {
        peer.send(Message::Content(content)).await;
    }
    assert!(!peer.known().await.header);
    assert_eq!(node.stats().await.unwrap().keys[0].stored_bytes, 0);
}

#[tokio::test]
async fn headers_without_content_count_for_the_quota() {
    let key = KeyLimits { stored_bytes: Some(2_000), ..KeyLimits::default() };
    let node = builder(NodeLimits { key, ..NodeLimits::default() }).start().unwrap();
    let mut peer = connect_as(&node, "key", 16).await;
    let mut taken = 0;
    for _ in 0..40 {
        for content in CoValue::new(map()).content_since(None) {
            peer.send(Message::Content(content)).await;
        }
        taken += u64::from(peer.known().await.header);
    }
    assert!((1..40).contains(&taken), "{taken}");
    assert!(node.stats().await.unwrap().limits.key_quota > 0);
}

#[tokio::test]
async fn connections_of_a_revoked_key_end_and_the_others_do_not() {
    let node = builder(NodeLimits::default()).start().unwrap();
    let mut revoked = connect_as(&node, "revoked", 16).await;
    let mut good = connect_as(&node, "good", 16).await;
    let author = Author::new();
    let mut value = node.local().create(map()).await.unwrap();
    let reason = CloseReason::new(CloseCode::PolicyViolation, "the key was revoked");
    let is_revoked = |peer: &PeerInfo| peer.label.as_deref() == Some("revoked");
    assert_eq!(node.disconnect(is_revoked, reason.clone()).await.unwrap(), 1);
    revoked.ended().await;
    good.send(load()).await;
    good.known().await;
    author.write(&mut value, "the program's own CoValues are no connections").await;
    assert_eq!(node.disconnect(|_| true, reason).await.unwrap(), 1);
    value.stored(SOON).await.unwrap();
    assert_eq!(count(value.content(), &author), 1);
}

#[tokio::test]
async fn a_peer_that_reads_nothing_can_be_disconnected() {
    let node = builder(NodeLimits::default()).start().unwrap();
    let author = Author::new();
    let mut value = node.local().create(map()).await.unwrap();
    let transactions = (0..100).map(|_| transaction(&"x".repeat(10_000)));
    value.append(&author.session, transactions, author.signer()).await.unwrap();
    value.stored(SOON).await.unwrap();
    let mut stuck = Peer::connect(&node, 1).await;
    stuck.load(value.id()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let reason = CloseReason::new(CloseCode::PolicyViolation, "enough");
    node.disconnect(|_| true, reason).await.unwrap();
    let gone = async {
        while node.stats().await.unwrap().peers.clients > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.unwrap();
}

/// A connection that expects a keep-alive every few milliseconds, and counts them.
struct Pinged {
    inner: Box<dyn Sender>,
    pings: Arc<AtomicU64>,
}

#[async_trait]
impl Sender for Pinged {
    async fn send(&mut self, messages: &[Message]) -> Result<usize, TransportError> {
        self.inner.send(messages).await
    }
    fn keep_alive_interval(&self) -> Option<Duration> {
        Some(Duration::from_millis(10))
    }
    async fn keep_alive(&mut self) -> Result<(), TransportError> {
        self.pings.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    async fn close(&mut self, reason: CloseReason) -> Result<(), TransportError> {
        self.inner.close(reason).await
    }
}

#[tokio::test]
async fn who_is_held_back_has_signs_of_life_all_the_same() {
    let limits = NodeLimits { connection: rate(1), ..NodeLimits::default() };
    let node = builder(limits).start().unwrap();
    let (ours, theirs) = pair(1);
    let pings = Arc::new(AtomicU64::new(0));
    let sender = Box::new(Pinged { inner: theirs.sender, pings: Arc::clone(&pings) });
    node.connect(Connection { sender, ..theirs }).await.unwrap();
    let mut peer = Peer::over(ours);
    for _ in 0..5 {
        peer.send(load()).await;
        peer.known().await;
    }
    // The sixth is held back for a second.
    peer.send(load()).await;
    let before = pings.load(Ordering::Relaxed);
    peer.known().await;
    let meanwhile = pings.load(Ordering::Relaxed) - before;
    assert!(meanwhile > 10, "{meanwhile}");
}
