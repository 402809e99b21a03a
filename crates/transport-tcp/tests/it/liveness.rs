use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_transport::TransportError;
use downbeat_transport_tcp::TcpOptions;

use crate::conformance::connect;
use crate::raw::{frame, welcomed};

#[test]
fn a_silent_peer_is_noticed_as_soon_as_websocket_clients_notice_one() {
    let options = TcpOptions::default();
    assert_eq!(options.silence_timeout, Duration::from_secs(10));
    assert!(options.keep_alive * 6 <= options.silence_timeout);
}

fn impatient() -> TcpOptions {
    TcpOptions {
        keep_alive: Duration::from_millis(100),
        silence_timeout: Duration::from_secs(1),
        ..TcpOptions::default()
    }
}

#[tokio::test]
async fn a_peer_that_shows_no_sign_of_life_is_given_up() {
    let options = impatient();
    let counters = Arc::clone(&options.counters);
    let (mut client, mut server) = welcomed(options).await;
    let begun = Instant::now();
    let telling = async {
        assert_eq!(client.read_close().await.0, 1001);
        drop(client);
    };
    let (end, ()) = tokio::join!(server.receiver.receive(), telling);
    assert!(matches!(end, Err(TransportError::Silent { .. })), "{end:?}");
    assert!(begun.elapsed() >= Duration::from_millis(900), "took {:?}", begun.elapsed());
    assert_eq!(counters.snapshot().peers_lost, 1);
}

#[tokio::test]
async fn signs_of_life_keep_an_idle_connection_alive() {
    let (mut client, mut server) = connect(impatient()).await;
    // As often as the other side wants it, though not more often than twice a second.
    assert_eq!(client.sender.keep_alive_interval(), Some(Duration::from_millis(500)));
    let showing = async {
        loop {
            client.sender.keep_alive().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let hearing = async {
        loop {
            let frame = server.receiver.receive().await.unwrap().unwrap();
            assert!(frame.messages.is_empty());
        }
    };
    // Several times as long as silence is suffered.
    let both = async { tokio::join!(showing, hearing) };
    let _: Result<((), ()), _> = tokio::time::timeout(Duration::from_secs(5), both).await;
}

#[tokio::test]
async fn who_wants_no_signs_of_life_gets_none_and_waits_for_none() {
    let options = TcpOptions {
        keep_alive: Duration::ZERO,
        silence_timeout: Duration::from_millis(200),
        ..TcpOptions::default()
    };
    let (mut client, mut server) = welcomed(options).await;
    assert_eq!(server.sender.keep_alive_interval(), None);
    let waited = tokio::time::timeout(Duration::from_millis(600), server.receiver.receive()).await;
    assert!(waited.is_err(), "{waited:?}");
    client.write(&frame(0, &[])).await;
    assert!(server.receiver.receive().await.unwrap().is_some());
}

#[tokio::test]
async fn a_frame_that_does_not_come_on_ends_the_connection() {
    let options =
        TcpOptions { stalled_frame_timeout: Duration::from_millis(500), ..TcpOptions::default() };
    let counters = Arc::clone(&options.counters);
    let (mut client, mut server) = welcomed(options).await;
    let bytes = frame(1, &[b'x'; 1_000]);
    let dribbling = async {
        for byte in bytes {
            if tokio::io::AsyncWriteExt::write_all(&mut client.stream, &[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            if server_closed(&mut client).await {
                break;
            }
        }
        drop(client);
    };
    let (end, ()) = tokio::join!(server.receiver.receive(), dribbling);
    assert!(matches!(end, Err(TransportError::TimedOut { .. })), "{end:?}");
    assert_eq!(counters.snapshot().frames_too_slow, 1);
}

/// Whether a close frame with the code for slowness has come.
async fn server_closed(client: &mut crate::raw::RawClient) -> bool {
    let mut first = [0];
    let peeked = client.stream.peek(&mut first);
    match tokio::time::timeout(Duration::from_millis(1), peeked).await {
        Ok(_) => {
            assert_eq!(client.read_close().await.0, 1008);
            true
        }
        Err(_) => false,
    }
}
