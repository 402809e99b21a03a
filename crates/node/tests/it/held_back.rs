//! Peers that are held back for good: what they have sent goes no further.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use downbeat_core::CoValue;
use downbeat_node::{KeyLimits, Node, NodeLimits};
use downbeat_protocol::{KnownState, Message};
use downbeat_storage::MemoryStorage;
use downbeat_transport::{
    Connection, DroppedFrame, Incoming, PeerInfo, Receiver, TransportError, pair,
};

use crate::given::{Peer, SOON, map, rate};

fn node(limits: NodeLimits) -> Node {
    Node::builder(Arc::new(MemoryStorage::new())).limits(limits).start().unwrap()
}

/// A LOAD of a CoValue that does not exist.
fn load() -> Message {
    Message::Load(KnownState::empty(CoValue::new(map()).id()))
}

/// Frames full of what cannot be decoded, without end.
struct Rubbish;

#[async_trait]
impl Receiver for Rubbish {
    async fn receive(&mut self) -> Result<Option<Incoming>, TransportError> {
        tokio::task::yield_now().await;
        let rejected = vec![DroppedFrame::WrongFrame("rubbish"); 200];
        Ok(Some(Incoming { rejected, ..Incoming::default() }))
    }
}

#[tokio::test]
async fn what_cannot_be_decoded_counts_as_messages_do() {
    let patience = Duration::from_millis(300);
    let node = node(NodeLimits { connection: rate(100), patience, ..NodeLimits::default() });
    let (ours, theirs) = pair(1);
    node.connect(Connection { receiver: Box::new(Rubbish), ..theirs }).await.unwrap();
    Peer::over(ours).ended().await;
    let stats = node.stats().await.unwrap();
    assert_eq!(stats.limits.closed_for_rate, 1);
    // Five seconds' worth is free; what is held back is told of only when it may go on.
    let told = stats.rejections.undecodable;
    assert_eq!(told, 400);
}

/// One frame that takes hours at a rate of one message a second, and then nothing.
struct Enormous(Option<Incoming>);

#[async_trait]
impl Receiver for Enormous {
    async fn receive(&mut self) -> Result<Option<Incoming>, TransportError> {
        match self.0.take() {
            Some(incoming) => Ok(Some(incoming)),
            None => std::future::pending().await,
        }
    }
}

#[tokio::test]
async fn who_sends_for_hours_is_closed_when_patience_ends_and_others_with_the_key_owe_nothing() {
    let patience = Duration::from_millis(300);
    let key = KeyLimits { rates: rate(1), ..KeyLimits::default() };
    let node = node(NodeLimits { key, patience, ..NodeLimits::default() });
    let info = PeerInfo::new("client").with_label(Some("key".into()));
    let rejected = vec![DroppedFrame::WrongFrame("rubbish"); 10_000];
    let incoming = Incoming { rejected, ..Incoming::default() };
    let (ours, theirs) = pair(1);
    let receiver = Box::new(Enormous(Some(incoming)));
    let enormous = Connection { receiver, info: info.clone(), ..theirs };
    node.connect(enormous).await.unwrap();
    let mut peer = Peer::over(ours);
    tokio::time::timeout(SOON, peer.ended()).await.expect("it is held for hours");
    assert_eq!(node.stats().await.unwrap().limits.closed_for_rate, 1);

    let (ours, theirs) = pair(1);
    node.connect(Connection { info, ..theirs }).await.unwrap();
    let mut other = Peer::over(ours);
    other.send(load()).await;
    other.known().await;
    let stats = node.stats().await.unwrap();
    assert_eq!((stats.limits.key_rate, stats.rejections.undecodable), (1, 0));
}
