use std::time::{Duration, Instant};

use downbeat_protocol::Message;
use downbeat_transport::{CloseCode, CloseReason, TransportError};
use downbeat_transport_ws::WsOptions;

use crate::raw::{CLOSE, TEXT, frame, upgraded};

#[tokio::test]
async fn every_close_code_has_its_number_on_the_wire() {
    for (code, number) in [
        (CloseCode::Normal, 1000),
        (CloseCode::GoingAway, 1001),
        (CloseCode::ProtocolError, 1002),
        (CloseCode::PolicyViolation, 1008),
        (CloseCode::TooLarge, 1009),
        (CloseCode::InternalError, 1011),
        (CloseCode::TryAgainLater, 1013),
    ] {
        let (mut client, mut server) = upgraded(WsOptions::default()).await;
        server.sender.close(CloseReason::new(code, "because")).await.unwrap();
        assert_eq!(client.read_frame().await.reason(), (number, "because"));
    }
}

#[tokio::test]
async fn a_reason_of_any_length_is_cut_to_what_a_frame_carries() {
    let (mut client, mut server) = upgraded(WsOptions::default()).await;
    let reason = CloseReason::new(CloseCode::Normal, "€".repeat(1_000));
    server.sender.close(reason).await.unwrap();
    assert_eq!(client.read_frame().await.reason(), (1000, "€".repeat(41).as_str()));
}

#[tokio::test]
async fn a_peers_close_is_answered_and_the_connection_ended() {
    let (mut client, mut server) = upgraded(WsOptions::default()).await;
    let close = [&1001_u16.to_be_bytes()[..], b"leaving"].concat();
    client.write(&frame(true, CLOSE, &close)).await;
    assert!(matches!(server.receiver.receive().await, Ok(None)));
    assert_eq!(client.read_frame().await.reason(), (1001, "leaving"));
    // The server ends the TCP connection, though its sending half still exists.
    assert_eq!(client.read_all().await, "");
    let sent = server.sender.send(&[Message::ReconcileAck(String::new())]).await;
    assert!(matches!(sent, Err(TransportError::Closed)), "{sent:?}");
}

#[tokio::test]
async fn closing_does_not_wait_long_for_a_peer_that_does_not_read() {
    let (mut client, mut server) = upgraded(WsOptions::default()).await;
    let message = [Message::ReconcileAck("x".repeat(1 << 20))];
    while let Ok(sent) =
        tokio::time::timeout(Duration::from_millis(200), server.sender.send(&message)).await
    {
        sent.unwrap();
    }
    client.write(&frame(true, TEXT, b"")).await;
    let begun = Instant::now();
    let receiving = async {
        while let Some(frame) = server.receiver.receive().await.unwrap() {
            assert!(frame.messages.is_empty());
        }
    };
    let closing = server.sender.close(CloseReason::new(CloseCode::GoingAway, "shutting down"));
    let (closed, ()) = tokio::join!(closing, receiving);
    assert!(matches!(closed, Err(TransportError::TimedOut { .. })), "{closed:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "took {:?}", begun.elapsed());
}
