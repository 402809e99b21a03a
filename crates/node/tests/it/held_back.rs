//! Peers that are held back for good: what they have sent goes no further.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use downbeat_node::{Limits, Node, Rates};
use downbeat_storage::MemoryStorage;
use downbeat_transport::{Connection, Incoming, Receiver, Rejection, TransportError, pair};

use crate::given::Peer;

fn node(limits: Limits) -> Node {
    Node::builder(Arc::new(MemoryStorage::new())).limits(limits).start().unwrap()
}

fn rate(messages: u64) -> Rates {
    Rates { messages: NonZeroU64::new(messages), bytes: None }
}

/// Frames full of what cannot be decoded, without end.
struct Rubbish;

#[async_trait]
impl Receiver for Rubbish {
    async fn receive(&mut self) -> Result<Option<Incoming>, TransportError> {
        tokio::task::yield_now().await;
        let rejected = vec![Rejection::WrongFrame("rubbish"); 200];
        Ok(Some(Incoming { rejected, ..Incoming::default() }))
    }
}

#[tokio::test]
async fn what_cannot_be_decoded_counts_as_messages_do() {
    let patience = Duration::from_millis(300);
    let node = node(Limits { connection: rate(100), patience, ..Limits::default() });
    let (ours, theirs) = pair(1);
    node.connect(Connection { receiver: Box::new(Rubbish), ..theirs }).await.unwrap();
    Peer::over(ours).ended().await;
    let stats = node.stats().await.unwrap();
    assert_eq!(stats.limits.closed_for_rate, 1);
    // Five seconds' worth is free; what is held back is told of only when it may go on.
    let told = stats.rejections.undecodable;
    assert!((400..=600).contains(&told), "{told}");
}
