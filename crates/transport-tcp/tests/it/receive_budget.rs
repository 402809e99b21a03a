//! Memory for frames that arrive in part.

use std::sync::Arc;
use std::time::Duration;

use downbeat_transport::TransportError;
use downbeat_transport::net::ReceiveBudget;
use downbeat_transport_tcp::TcpOptions;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::raw::{PATIENCE, frame, welcomed};

const BUDGET: usize = 1 << 20;

/// More than the free part of a connection, the part of a frame that is read ahead, and a step.
const SLACK: usize = 128 << 10;

fn options() -> (TcpOptions, Arc<ReceiveBudget>) {
    let budget = Arc::new(ReceiveBudget::new(BUDGET));
    (TcpOptions { receive_budget: Arc::clone(&budget), ..TcpOptions::default() }, budget)
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
        let (mut client, mut server) = welcomed(options.clone()).await;
        receiving.spawn(async move {
            let received = server.receiver.receive().await;
            (received, server)
        });
        let bytes = frame(1, &vec![0; 900 << 10]);
        let writing = client.stream.write_all(&bytes[..800 << 10]);
        let _ = tokio::time::timeout(Duration::from_millis(500), writing).await;
        silent.push(client);
    }
    // The bytes that were sent last may not have been read yet.
    let used = eventually(|| budget.used(), |used| *used >= BUDGET / 2).await;
    assert!((BUDGET / 2..=BUDGET + SLACK).contains(&used), "{used} bytes");

    let (mut client, mut server) = welcomed(options.clone()).await;
    let bytes = frame(1, &vec![0; 500 << 10]);
    let length = bytes.len();
    let writing = tokio::spawn(async move {
        client.write(&bytes).await;
        client
    });
    let received = tokio::time::timeout(PATIENCE, server.receiver.receive()).await.unwrap();
    assert_eq!(received.unwrap().unwrap().bytes, length);
    let _client = writing.await.unwrap();
    assert!(budget.used() <= BUDGET + SLACK);

    let (ended, _server) = receiving.join_next().await.unwrap().unwrap();
    assert!(matches!(ended, Err(TransportError::Displaced)), "{ended:?}");
    assert!(options.counters.snapshot().frames_displaced >= 1);
    let mut reading = JoinSet::new();
    for mut client in silent {
        reading.spawn(async move { client.read_close().await });
    }
    let first = tokio::time::timeout(PATIENCE, reading.join_next()).await.unwrap();
    let (code, _) = first.unwrap().unwrap();
    assert_eq!(code, 1013);
}

#[tokio::test]
async fn a_frame_keeps_its_memory_until_the_next_is_asked_for() {
    let (options, budget) = options();
    let (mut client, mut server) = welcomed(options).await;
    client.write(&frame(1, &vec![0; 300 << 10])).await;
    client.write(&frame(0, &[])).await;
    assert_eq!(server.receiver.receive().await.unwrap().unwrap().bytes, (300 << 10) + 5);
    assert!(budget.used() >= 200 << 10, "{} bytes", budget.used());
    assert_eq!(server.receiver.receive().await.unwrap().unwrap().bytes, 5);
    assert_eq!(budget.used(), 0);
}
