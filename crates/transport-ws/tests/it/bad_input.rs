use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_protocol::Message;
use downbeat_transport::{Blame, Connection, DroppedFrame, Incoming, TransportError};
use downbeat_transport_ws::WsOptions;
use tokio::io::AsyncWriteExt;

use crate::raw::{BINARY, CLOSE, PATIENCE, PING, PONG, RawClient, TEXT, frame, header, upgraded};

const MESSAGE: &[u8] = b"{\"action\":\"reconcile-ack\",\"id\":\"batch 1\"}";

fn small_frames() -> WsOptions {
    WsOptions { max_frame_bytes: 10_000, ..WsOptions::default() }
}

async fn next(server: &mut Connection) -> Incoming {
    let receiving = tokio::time::timeout(PATIENCE, server.receiver.receive());
    receiving.await.expect("a frame in time").unwrap().expect("an open connection")
}

/// The connection still works both ways.
async fn assert_usable(client: &mut RawClient, server: &mut Connection) {
    client.write(&frame(true, TEXT, MESSAGE)).await;
    let incoming = next(server).await;
    assert_eq!(incoming.messages, [Message::ReconcileAck("batch 1".into())]);
    server.sender.send(&incoming.messages).await.unwrap();
    assert_eq!(client.read_frame().await.payload, MESSAGE);
}

/// The connection ends with this error, within the time that a last word may take, and nothing can
/// be sent any more.
async fn assert_failed(server: &mut Connection) -> TransportError {
    let begun = Instant::now();
    let end = server.receiver.receive().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
    let error = end.expect_err("the peer broke the rules");
    assert!(matches!(server.receiver.receive().await, Ok(None)));
    let sent = server.sender.send(&[Message::ReconcileAck(String::new())]).await;
    assert!(sent.is_err());
    error
}

#[tokio::test]
async fn a_frame_that_is_no_message_is_rejected_and_the_connection_stays() {
    let (mut client, mut server) = upgraded(WsOptions::default()).await;
    for bad in [
        &b"not JSON"[..],
        b"{\"action\":\"reconcile-ack\"",
        b"{\"action\":\"dance\",\"id\":\"co_z1\"}",
        b"[]",
        b"{\"action\":\"load\",\"id\":7,\"header\":false,\"sessions\":{}}",
    ] {
        client.write(&frame(true, TEXT, bad)).await;
        let incoming = next(&mut server).await;
        assert_eq!(incoming.rejected.len(), 1, "{incoming:?}");
        assert_eq!(incoming.bytes, bad.len());
    }
    assert_usable(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_binary_frame_is_rejected_and_the_connection_stays() {
    let options = WsOptions::default();
    let counters = Arc::clone(&options.counters);
    let (mut client, mut server) = upgraded(options).await;
    client.write(&frame(true, BINARY, MESSAGE)).await;
    let incoming = next(&mut server).await;
    assert_eq!(incoming.rejected, [DroppedFrame::WrongFrame("binary")]);
    assert!(incoming.messages.is_empty());
    assert_usable(&mut client, &mut server).await;
    assert_eq!(counters.snapshot().frames_binary, 1);
}

#[tokio::test]
async fn an_empty_frame_is_a_sign_of_life() {
    let (mut client, mut server) = upgraded(WsOptions::default()).await;
    client.write(&frame(true, TEXT, b"")).await;
    assert_eq!(next(&mut server).await, Incoming::default());
    assert_usable(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_frame_over_the_limit_is_rejected_by_its_head_and_ends_the_connection() {
    let options = small_frames();
    let counters = Arc::clone(&options.counters);
    let (mut client, mut server) = upgraded(options).await;
    client.write(&header(true, TEXT, 10_001)).await;
    let incoming = next(&mut server).await;
    assert_eq!(incoming.rejected, [DroppedFrame::TooLarge { max: 10_000 }]);
    let telling = async {
        let close = client.read_frame().await;
        assert_eq!(close.reason(), (1009, "a frame of more than 10000 bytes"));
        drop(client);
    };
    let (error, ()) = tokio::join!(assert_failed(&mut server), telling);
    assert!(matches!(error, TransportError::FrameTooLarge { max: 10_000 }), "{error:?}");
    assert_eq!(error.blame(), Blame::Peer);
    assert_eq!(counters.snapshot().frames_too_large, 1);
}

#[tokio::test]
async fn a_peer_learns_why_even_while_it_goes_on_sending() {
    let (mut client, mut server) = upgraded(small_frames()).await;
    let sending = async {
        let mut bytes = header(true, TEXT, 8 << 20);
        bytes.resize(8 << 20, b'x');
        client.write(&bytes).await;
        client.read_frame().await
    };
    let receiving = async {
        assert_eq!(next(&mut server).await.rejected, [DroppedFrame::TooLarge { max: 10_000 }]);
        assert_failed(&mut server).await;
        drop(server);
    };
    let (close, ()) = tokio::join!(sending, receiving);
    assert_eq!(close.reason().0, 1009);
}

#[tokio::test]
async fn fragments_over_the_limit_together_end_the_connection() {
    let (mut client, mut server) = upgraded(small_frames()).await;
    client.write(&frame(false, TEXT, &[b' '; 6_000])).await;
    client.write(&frame(true, 0, &[b' '; 6_000])).await;
    assert_eq!(next(&mut server).await.rejected, [DroppedFrame::TooLarge { max: 10_000 }]);
    assert_eq!(client.read_frame().await.reason().0, 1009);
    drop(client);
    assert_failed(&mut server).await;
}

#[tokio::test]
async fn a_message_of_endless_empty_fragments_ends_the_connection() {
    let options = WsOptions::default();
    let counters = Arc::clone(&options.counters);
    let (mut client, mut server) = upgraded(options).await;
    client.write(&frame(false, TEXT, b"")).await;
    client.write(&frame(false, 0, b"").repeat(10_000)).await;
    let telling = async {
        let close = client.read_frame().await;
        assert_eq!(close.reason(), (1008, "a message of too many short fragments"));
        drop(client);
    };
    let (error, ()) = tokio::join!(assert_failed(&mut server), telling);
    assert_eq!(error.blame(), Blame::Peer, "{error:?}");
    assert_eq!(counters.snapshot().frames_fragmented, 1);
}

#[tokio::test]
async fn a_frame_at_the_limit_is_taken() {
    let (mut client, mut server) = upgraded(small_frames()).await;
    let mut padded = MESSAGE.to_vec();
    padded.resize(10_000, b' ');
    client.write(&frame(true, TEXT, &padded)).await;
    assert_eq!(next(&mut server).await.messages.len(), 1);
}

#[tokio::test]
async fn text_that_is_not_utf8_closes_with_1007() {
    let options = WsOptions::default();
    let counters = Arc::clone(&options.counters);
    let (mut client, mut server) = upgraded(options).await;
    client.write(&frame(true, TEXT, b"{\"action\":\"\xff\"}")).await;
    let telling = async {
        assert_eq!(client.read_frame().await.reason().0, 1007);
        drop(client);
    };
    let (error, ()) = tokio::join!(assert_failed(&mut server), telling);
    assert!(matches!(error, TransportError::Protocol(_)), "{error:?}");
    assert_eq!(counters.snapshot().frames_not_utf8, 1);
}

#[tokio::test]
async fn broken_framing_closes_with_1002() {
    let unmasked = [0x81, 0x01, b'x'];
    let reserved_bit = [0xF1, 0x80, 0, 0, 0, 0];
    let lone_continuation = frame(true, 0, b"x");
    let long_ping = frame(true, PING, &[0; 126]);
    let unknown_kind = frame(true, 3, b"x");
    for bad in [&unmasked[..], &reserved_bit[..], &lone_continuation, &long_ping, &unknown_kind] {
        let options = WsOptions::default();
        let counters = Arc::clone(&options.counters);
        let (mut client, mut server) = upgraded(options).await;
        client.write(bad).await;
        let telling = async {
            assert_eq!(client.read_frame().await.reason().0, 1002, "{bad:?}");
            drop(client);
        };
        let (error, ()) = tokio::join!(assert_failed(&mut server), telling);
        assert_eq!(error.blame(), Blame::Peer, "{bad:?}: {error:?}");
        assert_eq!(counters.snapshot().frames_malformed, 1);
    }
}

#[tokio::test]
async fn frames_dribbled_byte_by_byte_arrive() {
    let (mut client, mut server) = upgraded(WsOptions::default()).await;
    let bytes = [frame(true, TEXT, MESSAGE), frame(true, TEXT, MESSAGE)].concat();
    let dribbling = async {
        for byte in bytes {
            client.write(&[byte]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
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
    let options = WsOptions::default();
    let counters = Arc::clone(&options.counters);
    let (mut client, mut server) = upgraded(options).await;
    client.write(&frame(true, TEXT, MESSAGE)).await;
    let half = frame(true, TEXT, MESSAGE);
    client.write(half.get(..20).unwrap()).await;
    drop(client);
    assert_eq!(next(&mut server).await.messages.len(), 1);
    let end = server.receiver.receive().await;
    assert!(matches!(end, Err(TransportError::Disconnected)), "{end:?}");
    assert!(matches!(server.receiver.receive().await, Ok(None)));
    assert_eq!(counters.snapshot().frames_cut_off, 1);
}

#[tokio::test]
async fn a_half_open_connection_is_disconnected() {
    let (mut client, mut server) = upgraded(WsOptions::default()).await;
    client.stream.shutdown().await.unwrap();
    let end = server.receiver.receive().await;
    assert!(matches!(end, Err(TransportError::Disconnected)), "{end:?}");
}

#[tokio::test]
async fn websocket_pings_are_answered_and_count_as_signs_of_life() {
    let options = WsOptions::default();
    let counters = Arc::clone(&options.counters);
    let (mut client, mut server) = upgraded(options).await;
    client.write(&frame(true, PING, b"are you there?")).await;
    assert!(next(&mut server).await.messages.is_empty());
    let (pong, _) = tokio::join!(
        client.read_frame(),
        tokio::time::timeout(Duration::from_millis(200), server.receiver.receive()),
    );
    assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, &b"are you there?"[..]));
    client.write(&frame(true, PONG, b"")).await;
    assert!(next(&mut server).await.messages.is_empty());
    assert_usable(&mut client, &mut server).await;
    assert_eq!(counters.snapshot().pings, 1);
}

#[tokio::test]
async fn a_flood_of_pings_whose_answers_nobody_reads_does_not_break_what_is_sent() {
    let (client, mut server) = upgraded(WsOptions::default()).await;
    let pings: Vec<u8> = (0..1_000).flat_map(|_| frame(true, PING, &[b'p'; 125])).collect();
    let (mut reading, mut writing) = client.stream.into_split();
    // Until the answers have filled every buffer, so that the server's own data must wait.
    let flooding = async {
        let write = async {
            loop {
                writing.write_all(&pings).await.unwrap();
            }
        };
        tokio::select! {
            () = write => {}
            () = async { loop { next(&mut server).await; } } => {}
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    };
    flooding.await;
    let text = "x".repeat(100_000);
    let message = [Message::ReconcileAck(text)];
    let draining = async {
        let mut sink = vec![0; 1 << 16];
        let mut tail = Vec::new();
        while !tail.ends_with(b"\"}") {
            let count = tokio::io::AsyncReadExt::read(&mut reading, &mut sink).await.unwrap();
            assert_ne!(count, 0, "the connection stays");
            tail.extend_from_slice(&sink[..count]);
            tail.drain(..tail.len().saturating_sub(2));
        }
    };
    let (sent, ()) = tokio::join!(server.sender.send(&message), draining);
    sent.unwrap();
}

#[tokio::test]
async fn a_close_in_the_middle_of_a_message_ends_the_connection_in_order() {
    let (mut client, mut server) = upgraded(WsOptions::default()).await;
    client.write(&frame(false, TEXT, b"{\"action\":")).await;
    client.write(&frame(true, CLOSE, &1000_u16.to_be_bytes())).await;
    assert!(matches!(server.receiver.receive().await, Ok(None)));
    assert_eq!(client.read_frame().await.reason(), (1000, ""));
}

#[tokio::test]
async fn a_frame_that_does_not_come_on_is_given_up_and_concerns_nobody_else() {
    let options =
        WsOptions { stalled_frame_timeout: Duration::from_millis(500), ..WsOptions::default() };
    let counters = Arc::clone(&options.counters);
    let (mut client, mut server) = upgraded(options).await;
    // Whole frames may take as long as they like to come, and so may a large one that comes on.
    for _ in 0..8 {
        client.write(&frame(true, TEXT, MESSAGE)).await;
        assert_eq!(next(&mut server).await.messages.len(), 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut large = MESSAGE.to_vec();
    large.resize(100_000, b' ');
    let large = frame(true, TEXT, &large);
    let sending = async {
        for part in large.chunks(10_000) {
            client.write(part).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (incoming, ()) = tokio::join!(next(&mut server), sending);
    assert_eq!(incoming.messages.len(), 1);
    // Fragments are no way around it.
    client.write(&frame(false, TEXT, b" ")).await;
    let telling = async {
        assert_eq!(client.read_frame().await.reason().0, 1008);
        drop(client);
    };
    let (error, ()) = tokio::join!(assert_failed(&mut server), telling);
    assert!(matches!(error, TransportError::TimedOut { .. }), "{error:?}");
    assert_eq!(counters.snapshot().frames_too_slow, 1);
}

#[tokio::test]
async fn a_compressed_frame_is_against_the_rules_however_small_it_is() {
    // Neither side has agreed on compression, so the bit that marks it means nothing, and a bomb is
    // refused by its first byte.
    let options = WsOptions::default();
    let counters = Arc::clone(&options.counters);
    let (mut client, mut server) = upgraded(options).await;
    let mut bomb = frame(true, TEXT, &[0xED, 0xC1, 0x01, 0x01, 0, 0, 0, 0x80, 0x90]);
    bomb[0] |= 0x40;
    client.write(&bomb).await;
    let telling = async {
        assert_eq!(client.read_frame().await.reason().0, 1002);
        drop(client);
    };
    let (error, ()) = tokio::join!(assert_failed(&mut server), telling);
    assert_eq!(error.blame(), Blame::Peer);
    assert_eq!(counters.snapshot().frames_malformed, 1);
}
