use std::sync::Arc;

use downbeat_protocol::Message;
use downbeat_protocol::binary::encode_message;
use downbeat_transport::{Blame, Connection, DroppedFrame, Incoming, Listener, TransportError};
use downbeat_transport_tcp::{TcpListener, TcpOptions};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::raw::{MAGIC, PATIENCE, RawClient, frame, hello, welcomed, with_head};

fn payload() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_message(&Message::ReconcileAck("batch 1".into()), &mut bytes);
    bytes
}

fn small_frames() -> TcpOptions {
    TcpOptions { max_frame_bytes: 10_000, ..TcpOptions::default() }
}

async fn next(server: &mut Connection) -> Incoming {
    let receiving = tokio::time::timeout(PATIENCE, server.receiver.receive());
    receiving.await.expect("a frame in time").unwrap().expect("an open connection")
}

/// The connection still works both ways.
async fn assert_usable(client: &mut RawClient, server: &mut Connection) {
    client.write(&frame(1, &payload())).await;
    let incoming = next(server).await;
    assert_eq!(incoming.messages, [Message::ReconcileAck("batch 1".into())]);
    server.sender.send(&incoming.messages).await.unwrap();
    assert_eq!(client.read_frame().await, (1, payload()));
}

/// The connection ends with this error, and nothing can be sent any more.
async fn assert_failed(server: &mut Connection) -> TransportError {
    let end = tokio::time::timeout(PATIENCE, server.receiver.receive()).await.expect("in time");
    let error = end.expect_err("the peer broke the rules");
    assert!(matches!(server.receiver.receive().await, Ok(None)));
    let sent = server.sender.send(&[Message::ReconcileAck(String::new())]).await;
    assert!(matches!(sent, Err(TransportError::Closed)), "{sent:?}");
    error
}

#[tokio::test]
async fn a_frame_that_is_no_message_is_rejected_and_the_connection_stays() {
    let (mut client, mut server) = welcomed(TcpOptions::default()).await;
    for bad in [&b"not a message"[..], &[1, 0xFF], &[9, 0]] {
        client.write(&frame(1, bad)).await;
        let incoming = next(&mut server).await;
        assert_eq!(incoming.rejected.len(), 1, "{incoming:?}");
        assert_eq!(incoming.bytes, 5 + bad.len());
    }
    assert_usable(&mut client, &mut server).await;
}

#[tokio::test]
async fn an_empty_frame_of_messages_is_a_sign_of_life() {
    let (mut client, mut server) = welcomed(TcpOptions::default()).await;
    for kind in [0, 1] {
        client.write(&frame(kind, &[])).await;
        let expected = Incoming { bytes: 5, ..Incoming::default() };
        assert_eq!(next(&mut server).await, expected);
    }
    assert_usable(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_frame_over_the_limit_is_rejected_by_its_head_and_ends_the_connection() {
    for length in [10_001_u32, u32::MAX] {
        let options = small_frames();
        let counters = Arc::clone(&options.counters);
        let (mut client, mut server) = welcomed(options).await;
        client.write(&[&[1], &length.to_be_bytes()[..]].concat()).await;
        let incoming = next(&mut server).await;
        assert_eq!(incoming.rejected, [DroppedFrame::TooLarge { max: 10_000 }]);
        let telling = async {
            let reason = client.read_close().await;
            assert_eq!(reason, (1009, "a frame of more than 10000 bytes".to_owned()));
            drop(client);
        };
        let (error, ()) = tokio::join!(assert_failed(&mut server), telling);
        assert!(matches!(error, TransportError::FrameTooLarge { max: 10_000 }), "{error:?}");
        assert_eq!(counters.snapshot().frames_too_large, 1);
    }
}

#[tokio::test]
async fn a_frame_at_the_limit_is_taken() {
    let (mut client, mut server) = welcomed(small_frames()).await;
    client.write(&frame(1, &[0; 10_000])).await;
    assert_eq!(next(&mut server).await.bytes, 10_005);
    assert_usable(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_peer_learns_why_even_while_it_goes_on_sending() {
    let (mut client, mut server) = welcomed(small_frames()).await;
    let sending = async {
        client.write(&frame(1, &vec![b'x'; 8 << 20])).await;
        client.read_close().await
    };
    let receiving = async {
        assert_eq!(next(&mut server).await.rejected, [DroppedFrame::TooLarge { max: 10_000 }]);
        assert_failed(&mut server).await;
        drop(server);
    };
    let (reason, ()) = tokio::join!(sending, receiving);
    assert_eq!(reason.0, 1009);
}

#[tokio::test]
async fn broken_framing_closes_with_1002() {
    let unknown = frame(3, b"x");
    let alive = frame(0, b"x");
    let short_close = frame(2, b"x");
    let long_close = frame(2, &[b'x'; 515]);
    for bad in [unknown, alive, short_close, long_close] {
        let options = TcpOptions::default();
        let counters = Arc::clone(&options.counters);
        let (mut client, mut server) = welcomed(options).await;
        client.write(&bad).await;
        let telling = async {
            assert_eq!(client.read_close().await.0, 1002, "{bad:?}");
            drop(client);
        };
        let (error, ()) = tokio::join!(assert_failed(&mut server), telling);
        assert_eq!(error.blame(), Blame::Peer, "{bad:?}: {error:?}");
        assert_eq!(counters.snapshot().frames_malformed, 1);
    }
}

#[tokio::test]
async fn frames_dribbled_byte_by_byte_arrive() {
    let (mut client, mut server) = welcomed(TcpOptions::default()).await;
    let bytes = [frame(1, &payload()), frame(1, &payload())].concat();
    let dribbling = async {
        for byte in bytes {
            client.write(&[byte]).await;
            tokio::task::yield_now().await;
        }
        client
    };
    let receiving = async {
        for _ in 0..2 {
            assert_eq!(next(&mut server).await.messages.len(), 1);
        }
    };
    tokio::join!(dribbling, receiving);
}

#[tokio::test]
async fn a_connection_that_ends_within_a_frame_is_disconnected() {
    let options = TcpOptions::default();
    let counters = Arc::clone(&options.counters);
    let (mut client, mut server) = welcomed(options).await;
    let whole = frame(1, &payload());
    client.write(&whole).await;
    client.write(&whole[..7]).await;
    drop(client);
    assert_eq!(next(&mut server).await.messages.len(), 1);
    let end = server.receiver.receive().await;
    assert!(matches!(end, Err(TransportError::Disconnected)), "{end:?}");
    assert_eq!(counters.snapshot().frames_cut_off, 1);
}

#[tokio::test]
async fn a_peers_close_is_answered_by_the_end_of_the_stream() {
    let (mut client, mut server) = welcomed(TcpOptions::default()).await;
    client.write(&frame(2, &[&1001_u16.to_be_bytes()[..], b"leaving"].concat())).await;
    assert!(matches!(server.receiver.receive().await, Ok(None)));
    assert!(client.read_all().await.is_empty());
    let sent = server.sender.send(&[Message::ReconcileAck(String::new())]).await;
    assert!(matches!(sent, Err(TransportError::Closed)), "{sent:?}");
}

/// Any bytes at all, as the hello, as a hello's body and as frames: nothing panics, and the
/// connection ends.
#[test]
fn any_bytes_are_survived() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let lengths = prop_oneof![Just(0_u32), 0..300_u32, any::<u32>()];
    let headed = (0..4_u8, lengths, bytes.clone())
        .prop_map(|(kind, length, rest)| [&[kind], &length.to_be_bytes()[..], &rest].concat());
    let frames = prop::collection::vec(headed, 0..4).prop_map(|frames| frames.concat());
    let sent = prop_oneof![
        bytes.clone(),
        bytes.clone().prop_map(|rest| [MAGIC, &rest].concat()),
        (any::<[u8; 2]>(), bytes.clone()).prop_map(|(pair, body)| with_head(pair, &body)),
        bytes.prop_map(|body| with_head([1, 1], &body)),
        frames.prop_map(|frames| [hello("fuzz", ""), frames].concat()),
    ];
    let mut runner = TestRunner::new(ProptestConfig::with_cases(400));
    runner
        .run(&sent, |bytes| {
            runtime.block_on(async {
                let options = small_frames();
                let mut listener = TcpListener::bind("127.0.0.1:0", options).await.unwrap();
                let mut client = RawClient::connect(&listener).await;
                client.write(&bytes).await;
                tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.unwrap();
                let serving = async {
                    let mut server = listener.accept().await.unwrap();
                    while let Ok(Some(_)) = server.receiver.receive().await {}
                    drop(server);
                    // The client sees the end.
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    _ = client.read_all() => {}
                    () = serving => {}
                }
            });
            Ok(())
        })
        .unwrap();
}
