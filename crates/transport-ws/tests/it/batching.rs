use std::time::{Duration, SystemTime, UNIX_EPOCH};

use downbeat_protocol::Message;
use downbeat_transport::Connection;
use downbeat_transport_ws::WsOptions;

use crate::conformance::connect;
use crate::raw::{RawClient, TEXT, frame, upgraded};

fn ack(text: impl Into<String>) -> Message {
    Message::ReconcileAck(text.into())
}

fn json(text: &str) -> String {
    format!("{{\"action\":\"reconcile-ack\",\"id\":\"{text}\"}}")
}

/// A server's connection whose peer has shown that it knows batches.
async fn with_batches() -> (RawClient, Connection) {
    let (mut client, mut server) = upgraded(WsOptions::default()).await;
    let batch = format!("{}\n{}", json("1"), json("2"));
    client.write(&frame(true, TEXT, batch.as_bytes())).await;
    let incoming = server.receiver.receive().await.unwrap().unwrap();
    assert_eq!(incoming.messages, [ack("1"), ack("2")]);
    assert_eq!(incoming.bytes, batch.len());
    (client, server)
}

#[tokio::test]
async fn a_server_sends_each_message_in_a_frame_of_its_own() {
    let (mut client, mut server) = upgraded(WsOptions::default()).await;
    // A single message is no sign of batches.
    client.write(&frame(true, TEXT, json("0").as_bytes())).await;
    server.receiver.receive().await.unwrap().unwrap();
    let sent = server.sender.send(&[ack("a"), ack("b")]).await.unwrap();
    assert_eq!(sent, json("a").len() + json("b").len());
    assert_eq!(client.read_frame().await.text(), json("a"));
    assert_eq!(client.read_frame().await.text(), json("b"));
}

#[tokio::test]
async fn a_server_batches_once_its_peer_has() {
    let (mut client, mut server) = with_batches().await;
    server.sender.send(&[ack("a"), ack("b"), ack("c")]).await.unwrap();
    let expected = format!("{}\n{}\n{}", json("a"), json("b"), json("c"));
    assert_eq!(client.read_frame().await.text(), expected);
}

#[tokio::test]
async fn a_batch_ends_at_25_000_bytes_and_longer_messages_go_alone() {
    let (mut client, mut server) = with_batches().await;
    let texts = ["a".repeat(10_000), "b".repeat(10_000), "c".repeat(10_000), "d".repeat(30_000)];
    let last = "e".repeat(10);
    let messages: Vec<_> = texts.iter().chain([&last]).map(ack).collect();
    server.sender.send(&messages).await.unwrap();
    let expected = [
        format!("{}\n{}", json(&texts[0]), json(&texts[1])),
        json(&texts[2]),
        json(&texts[3]),
        json(&last),
    ];
    for frame in expected {
        assert_eq!(client.read_message().await.text(), frame);
    }
}

#[tokio::test]
async fn a_client_batches_from_the_start() {
    let (mut client, mut server) = connect(WsOptions::default()).await;
    client.sender.send(&[ack("a"), ack("b")]).await.unwrap();
    let incoming = server.receiver.receive().await.unwrap().unwrap();
    assert_eq!(incoming.messages, [ack("a"), ack("b")]);
}

#[tokio::test]
async fn a_long_message_is_sent_in_fragments_and_arrives_whole() {
    let (mut client, mut server) = upgraded(WsOptions::default()).await;
    let text = "x".repeat(200_000);
    let messages = [ack(&text)];
    let (sent, first) = tokio::join!(server.sender.send(&messages), client.read_frame());
    sent.unwrap();
    assert!(!first.last && first.payload.len() <= 32 << 10, "{}", first.payload.len());
    let (mut client, mut server) = upgraded(WsOptions::default()).await;
    let (sent, message) = tokio::join!(server.sender.send(&messages), client.read_message());
    sent.unwrap();
    assert_eq!(message.text(), json(&text));
}

#[tokio::test]
async fn a_server_pings_with_its_time_and_name_and_a_client_does_not() {
    let (mut client, mut server) = upgraded(WsOptions::default()).await;
    assert_eq!(server.sender.keep_alive_interval(), Some(Duration::from_millis(1_500)));
    server.sender.keep_alive().await.unwrap();
    let ping = client.read_frame().await;
    let ping = ping.text();
    let time = ping.strip_prefix("{\"type\":\"ping\",\"time\":").expect(ping);
    let time = time.strip_suffix(",\"dc\":\"downbeat\"}").expect(ping);
    let time = Duration::from_millis(time.parse().unwrap());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(now.abs_diff(time) < Duration::from_mins(1), "{time:?} is not about {now:?}");

    let (client, _server) = connect(WsOptions::default()).await;
    assert_eq!(client.sender.keep_alive_interval(), None);
}
