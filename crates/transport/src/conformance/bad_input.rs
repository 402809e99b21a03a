//! The rules for peers that send garbage, oversized or unfinished frames, or nothing.

use std::future::Future;
use std::time::Duration;

use downbeat_protocol::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::RULE_TIMEOUT;
use crate::connection::{Connection, Incoming};
use crate::error::{Blame, DroppedFrame, TransportError};

/// The longest time between two reads of the suite's peer.
const PEER_READ_TIME: Duration = Duration::from_secs(20);

/// Bytes that break the rules of a transport.
#[derive(Debug, Clone)]
pub struct BadInput {
    /// Bytes that are not a frame.
    pub garbage: Vec<u8>,
    /// The head of a frame over the size limit. Its payload never comes.
    pub oversized: Vec<u8>,
    /// The start of a frame.
    pub unfinished: Vec<u8>,
}

/// Runs the rules for bad input. `connect` makes a connection and the stream of its peer, after the
/// handshake; the suite plays the peer.
///
/// Panics with the rule's name if the transport breaks one.
pub async fn run_bad_input<F, C, S>(input: &BadInput, mut connect: F)
where
    F: FnMut() -> C,
    C: Future<Output = (S, Connection)>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut peer, connection) = connect().await;
    write(&mut peer, &input.garbage).await;
    rule("garbage ends the connection", garbage_ends_the_connection(peer, connection)).await;

    let (mut peer, connection) = connect().await;
    write(&mut peer, &input.oversized).await;
    rule("an oversized frame is rejected", an_oversized_frame_is_rejected(peer, connection)).await;

    let (mut peer, connection) = connect().await;
    write(&mut peer, &input.unfinished).await;
    drop(peer);
    rule("an unfinished frame is dropped", an_unfinished_frame_is_dropped(connection)).await;
}

/// Runs the rule for silent peers. `connect` makes a connection with a short limit on silence, and
/// its peer, which sends nothing.
///
/// Panics if the transport breaks the rule.
pub async fn run_silence<F, C, P>(mut connect: F)
where
    F: FnMut() -> C,
    C: Future<Output = (P, Connection)>,
{
    let (_silent, mut connection) = connect().await;
    let receiving = connection.receiver.receive();
    let end = rule("silence ends the connection", receiving).await;
    let error = end.expect_err("the peer is silent");
    assert!(matches!(error, TransportError::Silent { .. }), "{error:?}");
    assert_eq!(error.blame(), Blame::Link);
    assert_ended(&mut connection).await;
}

async fn garbage_ends_the_connection(mut peer: impl AsyncRead + Unpin, mut connection: Connection) {
    let (end, ()) = tokio::join!(first_error(&mut connection), read_to_end(&mut peer));
    assert_eq!(end.blame(), Blame::Peer, "{end:?}");
    assert_ended(&mut connection).await;
}

async fn an_oversized_frame_is_rejected(
    mut peer: impl AsyncRead + Unpin,
    mut connection: Connection,
) {
    let frame = connection.receiver.receive().await.expect("a rejection comes first");
    let Incoming { messages, rejected, .. } = frame.expect("a rejection comes first");
    assert!(messages.is_empty(), "{messages:?}");
    assert!(matches!(rejected[..], [DroppedFrame::TooLarge { .. }]), "{rejected:?}");
    let (end, ()) = tokio::join!(first_error(&mut connection), read_to_end(&mut peer));
    assert!(matches!(end, TransportError::FrameTooLarge { .. }), "{end:?}");
    assert_ended(&mut connection).await;
}

async fn an_unfinished_frame_is_dropped(mut connection: Connection) {
    let end = first_error(&mut connection).await;
    assert_eq!(end.blame(), Blame::Link, "{end:?}");
    assert_ended(&mut connection).await;
}

/// Runs one rule within the suite's time limit.
pub(super) async fn rule<T>(name: &str, rule: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(RULE_TIMEOUT, rule).await;
    done.unwrap_or_else(|_| panic!("{name}: not within {RULE_TIMEOUT:?}"))
}

async fn write(peer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    peer.write_all(bytes).await.expect("an open stream");
    peer.flush().await.expect("an open stream");
}

/// The peer reads the close. A reset is an end too.
async fn read_to_end(peer: &mut (impl AsyncRead + Unpin)) {
    let mut bytes = Vec::new();
    let reading = tokio::time::timeout(PEER_READ_TIME, peer.read_to_end(&mut bytes));
    let _ = reading.await.expect("the connection ends on the peer's side too");
}

/// The error that ends the connection. No message may come before it.
async fn first_error(connection: &mut Connection) -> TransportError {
    loop {
        match connection.receiver.receive().await {
            Ok(Some(frame)) => assert!(frame.messages.is_empty(), "{frame:?}"),
            Ok(None) => panic!("an orderly end instead of an error"),
            Err(error) => return error,
        }
    }
}

async fn assert_ended(connection: &mut Connection) {
    let after = connection.receiver.receive().await;
    assert!(matches!(after, Ok(None)), "after the end: {after:?}");
    let sent = connection.sender.send(&[Message::ReconcileAck(String::new())]).await;
    assert!(sent.is_err(), "a message was sent after the end");
}
