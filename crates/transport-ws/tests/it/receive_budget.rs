//! Memory for messages that arrive in part.

use std::sync::Arc;
use std::time::Duration;

use downbeat_transport::TransportCounters;
use downbeat_transport::conformance::run_receive_budget;
use downbeat_transport::net::ReceiveBudget;
use downbeat_transport_ws::WsOptions;

use crate::raw::{PATIENCE, RawClient, TEXT, frame, upgraded};

#[tokio::test]
async fn the_receive_budget_keeps_its_rules() {
    let counters = Arc::<TransportCounters>::default();
    let connect = |receive_budget| {
        let counters = Arc::clone(&counters);
        async {
            let options = WsOptions { receive_budget, counters, ..WsOptions::default() };
            let (client, server) = upgraded(options).await;
            (client.stream, server)
        }
    };
    let frame = |length| (frame(true, TEXT, &vec![b' '; length]), length);
    let close_code = |stream| async { RawClient { stream }.read_frame().await.reason().0 };
    run_receive_budget(frame, connect, close_code).await;
    assert!(counters.snapshot().frames_displaced >= 1);
}

#[tokio::test]
async fn fragments_of_one_message_count_together() {
    let budget = Arc::new(ReceiveBudget::new(1 << 20));
    let options = WsOptions { receive_budget: Arc::clone(&budget), ..WsOptions::default() };
    let (mut client, mut server) = upgraded(options).await;
    let receiving = tokio::spawn(async move { server.receiver.receive().await });
    for number in 0..10 {
        let opcode = if number == 0 { TEXT } else { 0 };
        client.write(&frame(false, opcode, &vec![b' '; 60 << 10])).await;
    }
    let growing = async {
        while budget.used() < 500 << 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, growing).await.expect("500 KiB are counted in time");
    client.write(&frame(true, 0, b" ")).await;
    assert_eq!(receiving.await.unwrap().unwrap().unwrap().bytes, (600 << 10) + 1);
}
