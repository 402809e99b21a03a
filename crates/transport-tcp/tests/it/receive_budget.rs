//! Memory for frames that arrive in part.

use std::sync::Arc;

use downbeat_transport::TransportCounters;
use downbeat_transport::conformance::run_receive_budget;
use downbeat_transport_tcp::TcpOptions;

use crate::raw::{RawClient, frame, welcomed};

#[tokio::test]
async fn the_receive_budget_keeps_its_rules() {
    let counters = Arc::<TransportCounters>::default();
    let connect = |receive_budget| {
        let counters = Arc::clone(&counters);
        async {
            let options = TcpOptions { receive_budget, counters, ..TcpOptions::default() };
            let (client, server) = welcomed(options).await;
            (client.stream, server)
        }
    };
    let frame = |length| {
        let bytes = frame(1, &vec![0; length]);
        let reported = bytes.len();
        (bytes, reported)
    };
    let close_code = |stream| async { RawClient { stream }.read_close().await.0 };
    run_receive_budget(frame, connect, close_code).await;
    assert!(counters.snapshot().frames_displaced >= 1);
}
