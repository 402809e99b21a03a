//! The rules for the memory of messages that arrive in part.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

use super::STALL;
use super::bad_input::rule;
use crate::connection::Connection;
use crate::error::TransportError;
use crate::net::ReceiveBudget;

const BUDGET: usize = 1 << 20;

/// More than the free part of a connection, the part of a frame that is read ahead, and a step.
const SLACK: usize = 128 << 10;

/// The time in which a peer can send what is read.
const SENDING_TIME: Duration = Duration::from_millis(500);

/// Runs the rules for a [`ReceiveBudget`]. `frame` makes a frame with a payload of this length, and
/// says which number of bytes its receiver reports. `connect` makes a connection with this budget
/// and the stream of its peer, after the handshake; the suite plays the peer. `close_code` reads the
/// code of a close frame, which comes next.
///
/// Panics with the rule's name if the transport breaks one.
pub async fn run_receive_budget<F, C, S, R>(
    frame: impl Fn(usize) -> (Vec<u8>, usize),
    mut connect: F,
    close_code: impl Fn(S) -> R,
) where
    F: FnMut(Arc<ReceiveBudget>) -> C,
    C: Future<Output = (S, Connection)>,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    R: Future<Output = u16> + Send + 'static,
{
    let giving_way = half_sent_frames_give_way_to_others(&frame, &mut connect, close_code);
    rule("half sent frames give way to others", giving_way).await;
    let passing = short_frames_come_while_the_budget_is_used_up(&frame, &mut connect);
    rule("short frames come while the budget is used up", passing).await;
    let free = short_frames_take_nothing_of_the_budget(&frame, &mut connect);
    rule("short frames take nothing of the budget", free).await;
    let keeping = a_frame_keeps_its_memory_until_the_next_is_asked_for(&frame, &mut connect);
    rule("a frame keeps its memory until the next is asked for", keeping).await;
}

async fn half_sent_frames_give_way_to_others<F, C, S, R>(
    frame: &impl Fn(usize) -> (Vec<u8>, usize),
    connect: &mut F,
    close_code: impl Fn(S) -> R,
) where
    F: FnMut(Arc<ReceiveBudget>) -> C,
    C: Future<Output = (S, Connection)>,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    R: Future<Output = u16> + Send + 'static,
{
    let budget = Arc::new(ReceiveBudget::new(BUDGET));
    let mut receiving = JoinSet::new();
    let mut silent = Vec::new();
    // Few enough for the first to be silent for less than two seconds, after which it gives way.
    for _ in 0..3 {
        let (mut peer, mut connection) = connect(Arc::clone(&budget)).await;
        receiving.spawn(async move {
            let received = connection.receiver.receive().await;
            (received, connection)
        });
        send_half(&mut peer, frame).await;
        silent.push(peer);
    }
    // The bytes that were sent last may not have been read yet.
    while budget.used() < BUDGET / 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let used = budget.used();
    assert!(used <= BUDGET + SLACK, "{used} bytes");

    let (mut peer, mut connection) = connect(Arc::clone(&budget)).await;
    let (bytes, reported) = frame(500 << 10);
    let writing = tokio::spawn(async move {
        peer.write_all(&bytes).await.expect("an open stream");
        peer
    });
    assert_eq!(next_bytes(&mut connection).await, reported);
    let _peer = writing.await.expect("the peer has written its frame");
    assert!(budget.used() <= BUDGET + SLACK);

    let ended = receiving.join_next().await.expect("there are three");
    let (ended, _connection) = ended.expect("a receiver does not panic");
    assert!(matches!(ended, Err(TransportError::Displaced)), "{ended:?}");
    let mut reading = JoinSet::new();
    for peer in silent {
        reading.spawn(close_code(peer));
    }
    let first = reading.join_next().await.expect("there are three");
    assert_eq!(first.expect("a close frame"), 1013);
}

async fn short_frames_come_while_the_budget_is_used_up<F, C, S>(
    frame: &impl Fn(usize) -> (Vec<u8>, usize),
    connect: &mut F,
) where
    F: FnMut(Arc<ReceiveBudget>) -> C,
    C: Future<Output = (S, Connection)>,
    S: AsyncWrite + Unpin,
{
    let budget = Arc::new(ReceiveBudget::new(BUDGET));
    let mut receiving = JoinSet::new();
    let mut silent = Vec::new();
    for _ in 0..2 {
        let (mut peer, mut connection) = connect(Arc::clone(&budget)).await;
        receiving.spawn(async move {
            let _ = connection.receiver.receive().await;
        });
        send_half(&mut peer, frame).await;
        silent.push(peer);
    }
    let (mut peer, mut connection) = connect(budget).await;
    let started = Instant::now();
    for _ in 0..20 {
        let (bytes, reported) = frame(4 << 10);
        peer.write_all(&bytes).await.expect("an open stream");
        assert_eq!(next_bytes(&mut connection).await, reported);
    }
    assert!(started.elapsed() < Duration::from_secs(2), "they waited for room");
}

async fn short_frames_take_nothing_of_the_budget<F, C, S>(
    frame: &impl Fn(usize) -> (Vec<u8>, usize),
    connect: &mut F,
) where
    F: FnMut(Arc<ReceiveBudget>) -> C,
    C: Future<Output = (S, Connection)>,
    S: AsyncWrite + Unpin,
{
    let budget = Arc::new(ReceiveBudget::new(BUDGET));
    let (mut peer, mut connection) = connect(Arc::clone(&budget)).await;
    let (long, reported) = frame(15 << 10);
    // Most of the next frame comes with the end of the one before it.
    for start in [1, 5_000, long.len() - 1] {
        let (first, rest) = long.split_at(start);
        let (short, reported_short) = frame(100);
        peer.write_all(&[&short, first].concat()).await.expect("an open stream");
        assert_eq!(next_bytes(&mut connection).await, reported_short);
        let waiting = tokio::time::timeout(STALL, connection.receiver.receive()).await;
        assert!(waiting.is_err(), "a part of a frame arrived as {waiting:?}");
        assert_eq!(budget.used(), 0, "after {start} bytes of a frame");
        peer.write_all(rest).await.expect("an open stream");
        assert_eq!(next_bytes(&mut connection).await, reported);
        assert_eq!(budget.used(), 0);
    }
}

async fn a_frame_keeps_its_memory_until_the_next_is_asked_for<F, C, S>(
    frame: &impl Fn(usize) -> (Vec<u8>, usize),
    connect: &mut F,
) where
    F: FnMut(Arc<ReceiveBudget>) -> C,
    C: Future<Output = (S, Connection)>,
    S: AsyncWrite + Unpin + Send + 'static,
{
    let budget = Arc::new(ReceiveBudget::new(BUDGET));
    let (mut peer, mut connection) = connect(Arc::clone(&budget)).await;
    let ((long, reported), (short, reported_short)) = (frame(300 << 10), frame(1));
    let writing = tokio::spawn(async move {
        peer.write_all(&[long, short].concat()).await.expect("an open stream");
        peer
    });
    assert_eq!(next_bytes(&mut connection).await, reported);
    let used = budget.used();
    assert!(used >= 200 << 10, "{used} bytes");
    assert_eq!(next_bytes(&mut connection).await, reported_short);
    assert_eq!(budget.used(), 0);
    drop(writing);
}

/// Sends most of a frame as far as it is read, and then nothing.
async fn send_half(
    peer: &mut (impl AsyncWrite + Unpin),
    frame: &impl Fn(usize) -> (Vec<u8>, usize),
) {
    let (mut bytes, _) = frame(900 << 10);
    bytes.truncate(800 << 10);
    let _ = tokio::time::timeout(SENDING_TIME, peer.write_all(&bytes)).await;
}

/// The number of bytes of the next frame.
async fn next_bytes(connection: &mut Connection) -> usize {
    let frame = connection.receiver.receive().await.expect("an open connection");
    frame.expect("an open connection").bytes
}
