use std::time::Duration;

use downbeat_protocol::Message;
use downbeat_transport::{CloseCode, CloseReason, TransportError, conformance, pair};

#[tokio::test]
async fn the_pair_conforms_with_room_for_one_message() {
    conformance::run(|| async { pair(1) }).await;
}

#[tokio::test]
async fn the_pair_conforms_with_room_for_many_messages() {
    conformance::run(|| async { pair(100) }).await;
}

#[tokio::test]
async fn no_more_messages_wait_than_the_capacity() {
    let (mut left, mut right) = pair(3);
    let messages = vec![Message::ReconcileAck(String::new()); 5];
    let sending = left.sender.send(&messages);
    assert!(tokio::time::timeout(Duration::from_millis(50), sending).await.is_err());
    let frame = right.receiver.receive().await.unwrap().unwrap();
    assert_eq!(frame.messages.len(), 3);
}

#[tokio::test]
async fn a_sender_that_waits_learns_of_the_peers_close() {
    let (mut left, mut right) = pair(1);
    let messages = vec![Message::ReconcileAck(String::new()); 2];
    let (sent, closed) = tokio::join!(
        left.sender.send(&messages),
        right.sender.close(CloseReason::new(CloseCode::GoingAway, "shutting down")),
    );
    assert!(matches!(sent, Err(TransportError::Closed)));
    closed.unwrap();
}
