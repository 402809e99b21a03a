//! Each input costs its sender what it costs the node.

use std::sync::Arc;
use std::time::Duration;

use downbeat_core::CoValue;
use downbeat_crypto::random_session_id;
use downbeat_node::{Access, AccountList, Node, NodeLimits};
use downbeat_protocol::{Content, Message, Owner, Signature};
use downbeat_storage::{FaultyStorage, InjectedFailure, MemoryStorage, Operation};
use downbeat_transport::{Connection, PeerInfo, pair};
use tokio::sync::Notify;

use crate::given::{Author, Peer, SOON, map, rate, transaction};

fn node(limits: NodeLimits) -> Node {
    Node::builder(Arc::new(MemoryStorage::new())).limits(limits).start().unwrap()
}

/// A client at an address.
async fn connect_from(node: &Node, address: &str) -> Peer {
    let (ours, theirs) = pair(16);
    let info = PeerInfo::new(address).with_remote(address.parse().unwrap());
    node.connect(Connection { info, ..theirs }).await.unwrap();
    Peer::over(ours)
}

/// A map with so many sessions of one transaction, and its content in one message.
fn many_sessions(author: &Author, sessions: usize) -> (CoValue, Content) {
    let mut value = CoValue::new(map());
    let owner = Owner::Agent(author.secret.agent());
    for _ in 0..sessions {
        let session = random_session_id(&owner).unwrap();
        value.append(&session, transaction("x"), author.signer()).unwrap();
    }
    let mut contents = value.content_since(None).into_iter();
    let mut content = contents.next().unwrap();
    content.sessions.extend(contents.flat_map(|content| content.sessions));
    (value, content)
}

fn forged(mut content: Content) -> Content {
    for run in &mut content.sessions {
        run.last_signature = Signature::from_bytes(&[7; 64]);
    }
    content
}

#[tokio::test]
async fn a_message_with_many_sessions_is_taken_whole() {
    let node = node(NodeLimits::default());
    let (value, content) = many_sessions(&Author::new(), 300);
    let mut peer = Peer::connect(&node, 16).await;
    peer.send(Message::Content(content)).await;
    while peer.known().await != value.known_state() {}
    let stats = node.stats().await.unwrap();
    assert_eq!(stats.received.content, 1);
    assert_eq!(stats.rejections.iter().map(|(_, count)| count).sum::<u64>(), 0);
}

#[tokio::test]
async fn a_message_counts_as_the_work_that_it_causes() {
    let node = node(NodeLimits { connection: rate(60), ..NodeLimits::default() });
    let (value, content) = many_sessions(&Author::new(), 330);
    let mut peer = Peer::connect(&node, 16).await;
    peer.send(Message::Content(content)).await;
    while peer.known().await != value.known_state() {}
    let stats = node.stats().await.unwrap();
    // 300 signatures are free.
    assert!(stats.limits.connection_rate_micros >= 400_000, "{:?}", stats.limits);
}

#[tokio::test]
async fn after_the_first_bad_signature_the_rest_of_a_message_is_not_verified() {
    let node = node(NodeLimits::default());
    let (_, content) = many_sessions(&Author::new(), 200);
    let mut peer = Peer::connect(&node, 16).await;
    peer.send(Message::Content(forged(content))).await;
    // Another CoValue of the same peer is behind it, and is taken.
    let (value, content) = many_sessions(&Author::new(), 1);
    peer.send(Message::Content(content)).await;
    while peer.known().await != value.known_state() {}
    let rejections = node.stats().await.unwrap().rejections;
    assert!((1..100).contains(&rejections.bad_signature), "{rejections:?}");
}

#[tokio::test]
async fn who_goes_on_with_bad_signatures_is_closed() {
    let node = node(NodeLimits { strikes: 3, ..NodeLimits::default() });
    let mut peer = Peer::connect(&node, 16).await;
    for _ in 0..3 {
        let (_, content) = many_sessions(&Author::new(), 1);
        peer.send(Message::Content(forged(content))).await;
    }
    peer.ended().await;
    assert_eq!(node.stats().await.unwrap().limits.closed_for_strikes, 1);
}

#[tokio::test]
async fn who_goes_on_with_wrong_headers_is_closed_where_only_some_accounts_may_store() {
    let access = Access::Accounts { accounts: AccountList::default(), quota: None };
    let limits = NodeLimits { strikes: 3, ..NodeLimits::default() };
    let builder = Node::builder(Arc::new(MemoryStorage::new())).limits(limits);
    let node = builder.access(access).start().unwrap();
    let mut peer = Peer::connect(&node, 16).await;
    for _ in 0..3 {
        let (_, content) = many_sessions(&Author::new(), 1);
        peer.send(Message::Content(Content { id: CoValue::new(map()).id(), ..content })).await;
    }
    peer.ended().await;
    assert_eq!(node.stats().await.unwrap().limits.closed_for_strikes, 1);
}

#[tokio::test]
async fn who_repeats_a_fork_is_closed() {
    let node = node(NodeLimits { strikes: 5, ..NodeLimits::default() });
    let (header, author) = (map(), Author::new());
    let mut value = node.local().create(header.clone()).await.unwrap();
    author.write(&mut value, "one").await;
    author.write(&mut value, "two").await;
    value.stored(SOON).await.unwrap();
    let mut peer = Peer::connect(&node, 64).await;
    for number in 0..5 {
        let mut forked = CoValue::new(header.clone());
        forked.append(&author.session, transaction("one"), author.signer()).unwrap();
        let before = forked.known_state();
        let other = transaction(&number.to_string());
        forked.append(&author.session, other, author.signer()).unwrap();
        for content in forked.content_since(Some(&before)) {
            peer.send(Message::Content(content)).await;
        }
        // Content behind a fork that is being verified is dropped together with it.
        let refused = async {
            while node.stats().await.unwrap().rejections.forked <= number {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(SOON, refused).await.unwrap();
    }
    peer.ended().await;
    let stats = node.stats().await.unwrap();
    assert_eq!((stats.rejections.forked, stats.limits.closed_for_strikes), (5, 1));
}

#[tokio::test]
async fn connections_from_one_address_share_a_rate() {
    let node = node(NodeLimits { address: rate(20), ..NodeLimits::default() });
    let mut peers = Vec::new();
    for _ in 0..4 {
        peers.push(connect_from(&node, "2001:db8::1").await);
    }
    let mut other = connect_from(&node, "192.0.2.1").await;
    for _ in 0..28 {
        for peer in &mut peers {
            peer.load(CoValue::new(map()).id()).await;
            peer.known().await;
        }
        other.load(CoValue::new(map()).id()).await;
        other.known().await;
    }
    // 112 messages: 100 are free, and the others wait for 50 ms each. Those of the other address
    // do not wait.
    let limits = node.stats().await.unwrap().limits;
    assert!(limits.address_rate_micros > 0, "{limits:?}");
    assert_eq!(limits.connection_rate_micros, 0);
}

#[tokio::test]
async fn who_does_not_read_keeps_little_memory_and_holds_up_no_other() {
    const BUDGET: u64 = 4 << 20;
    const STUCK: usize = 8;

    let patience = Duration::from_millis(200);
    let limits = NodeLimits { output_bytes: BUDGET, stall: patience, ..NodeLimits::default() };
    let node = node(limits);
    let author = Author::new();
    let mut large = node.local().create(map()).await.unwrap();
    let transactions = (0..4).map(|_| transaction(&"x".repeat(900_000)));
    for transaction in transactions {
        large.append(&author.session, [transaction], author.signer()).await.unwrap();
    }
    large.stored(SOON).await.unwrap();
    let mut small = node.local().create(map()).await.unwrap();
    author.write(&mut small, "small").await;
    small.stored(SOON).await.unwrap();
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        let mut peer = Peer::connect(&node, 1).await;
        peer.load(large.id()).await;
        stuck.push(peer);
    }
    let used_up = async {
        // Two writes of 1.8 MB fit, and a third does not.
        while node.stats().await.unwrap().memory.output_bytes < 3_600_000 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, used_up).await.unwrap();

    // Small content needs no room.
    let mut reader = Peer::connect(&node, 1).await;
    reader.load(small.id()).await;
    reader.content(small.id()).await;
    // Large content has its turn.
    reader.load(large.id()).await;
    let mut reached = 0;
    while reached < 4 {
        for run in reader.content(large.id()).await.sessions {
            assert_eq!(run.after, reached, "there is no gap");
            reached = run.end();
        }
    }
    let stats = node.stats().await.unwrap();
    assert!(stats.limits.closed_for_reading > 0, "{:?}", stats.limits);
    assert!(stats.back_pressure.output_waits > 0);
    assert!(stats.memory.output_bytes <= BUDGET);
}

#[tokio::test]
async fn what_a_peer_has_left_behind_counts_until_it_is_stored() {
    let storage = Arc::new(FaultyStorage::new(MemoryStorage::new()));
    let node = Node::builder(storage.clone()).start().unwrap();
    let gate = Arc::new(Notify::new());
    storage.inject(Operation::Append, InjectedFailure::Wait(Arc::clone(&gate)));
    let (mut value, author) = (CoValue::new(map()), Author::new());
    let text = "x".repeat(100_000);
    for _ in 0..20 {
        value.append(&author.session, transaction(&text), author.signer()).unwrap();
    }
    let mut peer = Peer::connect(&node, 1).await;
    for content in value.content_since(None) {
        peer.send(Message::Content(content)).await;
    }
    let pooled_is = |is_expected: fn(u64) -> bool| {
        let node = &node;
        async move {
            let waiting = async {
                while !is_expected(node.stats().await.unwrap().memory.pooled_credit_bytes) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(SOON, waiting).await.unwrap();
        }
    };
    pooled_is(|pooled| pooled > 1_500_000).await;
    drop(peer);
    let gone = async {
        while node.stats().await.unwrap().peers.clients > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.unwrap();
    pooled_is(|pooled| pooled > 1_500_000).await;
    gate.notify_one();
    pooled_is(|pooled| pooled == 0).await;
}
