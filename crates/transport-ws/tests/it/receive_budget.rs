//! Memory for messages that arrive in part.

use std::sync::Arc;
use std::time::Duration;

use downbeat_transport::TransportError;
use downbeat_transport::net::ReceiveBudget;
use downbeat_transport_ws::WsOptions;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::raw::{PATIENCE, RawClient, TEXT, frame, header, upgraded};

const BUDGET: usize = 1 << 20;

/// More than the free part of a connection, the part of a frame that is read ahead, and a step.
const SLACK: usize = 128 << 10;

fn options() -> (WsOptions, Arc<ReceiveBudget>) {
    let budget = Arc::new(ReceiveBudget::new(BUDGET));
    (WsOptions { receive_budget: Arc::clone(&budget), ..WsOptions::default() }, budget)
}

/// Sends most of a frame as far as it is read, and then nothing.
async fn send_half(mut client: RawClient) -> RawClient {
    let mut bytes = header(true, TEXT, 900 << 10);
    bytes.resize(800 << 10, b'x');
    let writing = client.stream.write_all(&bytes);
    let _ = tokio::time::timeout(Duration::from_millis(500), writing).await;
    client
}

/// The value as soon as it is so, or after a time.
async fn eventually<T>(value: impl Fn() -> T, is_so: impl Fn(&T) -> bool) -> T {
    let started = tokio::time::Instant::now();
    loop {
        let now = value();
        if is_so(&now) || started.elapsed() > PATIENCE {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn half_sent_frames_share_a_budget_and_give_way_to_others() {
    let (options, budget) = options();
    let mut receiving = JoinSet::new();
    let mut silent = Vec::new();
    // Few enough for the first to be silent for less than two seconds, after which it gives way.
    for _ in 0..3 {
        let (client, mut server) = upgraded(options.clone()).await;
        receiving.spawn(async move {
            let received = server.receiver.receive().await;
            (received, server)
        });
        silent.push(send_half(client).await);
    }
    // The bytes that were sent last may not have been read yet.
    let used = eventually(|| budget.used(), |used| *used >= BUDGET / 2).await;
    assert!((BUDGET / 2..=BUDGET + SLACK).contains(&used), "{used} bytes");

    let (mut client, mut server) = upgraded(options.clone()).await;
    let payload = vec![b' '; 500 << 10];
    let bytes = frame(true, TEXT, &payload);
    let writing = tokio::spawn(async move {
        client.write(&bytes).await;
        client
    });
    let received = tokio::time::timeout(PATIENCE, server.receiver.receive()).await.unwrap();
    assert_eq!(received.unwrap().unwrap().bytes, payload.len());
    let _client = writing.await.unwrap();
    assert!(budget.used() <= BUDGET + SLACK);

    let (ended, _server) = receiving.join_next().await.unwrap().unwrap();
    assert!(matches!(ended, Err(TransportError::Displaced)), "{ended:?}");
    assert!(options.counters.snapshot().frames_displaced >= 1);
    let mut reading = JoinSet::new();
    for mut client in silent {
        reading.spawn(async move { client.read_frame().await });
    }
    let first = tokio::time::timeout(PATIENCE, reading.join_next()).await.unwrap();
    let close = first.unwrap().unwrap();
    assert_eq!(close.reason().0, 1013);
}

#[tokio::test]
async fn short_messages_come_while_the_budget_is_used_up() {
    let (options, _budget) = options();
    let mut receiving = JoinSet::new();
    let mut silent = Vec::new();
    for _ in 0..2 {
        let (client, mut server) = upgraded(options.clone()).await;
        receiving.spawn(async move {
            let _ = server.receiver.receive().await;
        });
        silent.push(send_half(client).await);
    }
    let (mut client, mut server) = upgraded(options.clone()).await;
    let started = tokio::time::Instant::now();
    for _ in 0..20 {
        client.write(&frame(true, TEXT, &[b' '; 4 << 10])).await;
        let received = tokio::time::timeout(PATIENCE, server.receiver.receive()).await.unwrap();
        assert_eq!(received.unwrap().unwrap().bytes, 4 << 10);
    }
    assert!(started.elapsed() < Duration::from_secs(2), "they waited for room");
}

#[tokio::test]
async fn a_message_keeps_its_memory_until_the_next_is_asked_for() {
    let (options, budget) = options();
    let (mut client, mut server) = upgraded(options).await;
    let payload = vec![b' '; 300 << 10];
    client.write(&frame(true, TEXT, &payload)).await;
    client.write(&frame(true, TEXT, b" ")).await;
    assert_eq!(server.receiver.receive().await.unwrap().unwrap().bytes, payload.len());
    assert!(budget.used() >= payload.len() - SLACK, "{} bytes", budget.used());
    assert_eq!(server.receiver.receive().await.unwrap().unwrap().bytes, 1);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn fragments_of_one_message_count_together() {
    let (options, budget) = options();
    let (mut client, mut server) = upgraded(options).await;
    let receiving = tokio::spawn(async move { server.receiver.receive().await });
    for number in 0..10 {
        let opcode = if number == 0 { TEXT } else { 0 };
        client.write(&frame(false, opcode, &vec![b' '; 60 << 10])).await;
    }
    let used = eventually(|| budget.used(), |used| *used >= 500 << 10).await;
    assert!(used >= 500 << 10, "{used} bytes");
    client.write(&frame(true, 0, b" ")).await;
    assert_eq!(receiving.await.unwrap().unwrap().unwrap().bytes, (600 << 10) + 1);
}
