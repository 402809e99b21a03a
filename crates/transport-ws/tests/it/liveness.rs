//! A server that is there and says nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_transport::{Connection, Connector, TransportError};
use downbeat_transport_ws::{WsConnector, WsOptions};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::raw::{RawClient, upgraded};

fn impatient() -> WsOptions {
    WsOptions { silence_timeout: Duration::from_millis(400), ..WsOptions::default() }
}

/// A connection to a server that does only what it is told.
async fn connected(options: WsOptions) -> (Connection, RawClient) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let answering = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut server = RawClient { stream };
        let head = server.read_head().await;
        let headers = head.lines().filter_map(|line| line.split_once(": "));
        let (_, key) = { headers }
            .find(|(name, _)| name.eq_ignore_ascii_case("Sec-WebSocket-Key"))
            .expect("a key");
        let accept = derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        server.write(answer.as_bytes()).await;
        server
    };
    let connector = WsConnector::new(&url, options).unwrap();
    let (connection, server) = tokio::join!(connector.connect(), answering);
    (connection.unwrap(), server)
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let options = impatient();
    let counters = Arc::clone(&options.counters);
    let (mut connection, mut server) = connected(options).await;
    server.write(&[0x81, 2, b'{', b'}']).await;
    assert!(connection.receiver.receive().await.unwrap().is_some());
    let begun = Instant::now();
    let end = tokio::time::timeout(Duration::from_secs(20), connection.receiver.receive()).await;
    let end = end.expect("an end, though the server closes nothing");
    assert!(matches!(end, Err(TransportError::Silent { .. })), "{end:?}");
    assert!(begun.elapsed() >= Duration::from_millis(350), "took {:?}", begun.elapsed());
    assert_eq!(counters.snapshot().peers_lost, 1);
    assert!(connection.receiver.receive().await.unwrap().is_none());
}

#[tokio::test]
async fn every_byte_of_a_server_is_a_sign_of_life() {
    let (mut connection, mut server) = connected(impatient()).await;
    // A frame that takes several times as long as silence is suffered.
    let text = [0x81, 10, b'{', b' ', b' ', b' ', b' ', b' ', b' ', b' ', b' ', b'}'];
    let dribbling = async {
        for byte in text {
            tokio::time::sleep(Duration::from_millis(100)).await;
            server.write(&[byte]).await;
        }
    };
    let (frame, ()) = tokio::join!(connection.receiver.receive(), dribbling);
    assert_eq!(frame.unwrap().unwrap().bytes, 10);
}

#[tokio::test]
async fn a_client_may_be_silent() {
    let (mut client, mut server) = upgraded(impatient()).await;
    let waited = tokio::time::timeout(Duration::from_millis(900), server.receiver.receive()).await;
    assert!(waited.is_err(), "{waited:?}");
    client.write(&crate::raw::frame(true, crate::raw::TEXT, b"{}")).await;
    assert!(server.receiver.receive().await.unwrap().is_some());
}

#[tokio::test]
async fn a_server_that_need_not_speak_may_be_silent() {
    let options = WsOptions { silence_timeout: Duration::ZERO, ..WsOptions::default() };
    let (mut connection, _server) = connected(options).await;
    let waiting = connection.receiver.receive();
    let waited = tokio::time::timeout(Duration::from_millis(300), waiting).await;
    assert!(waited.is_err(), "{waited:?}");
}
