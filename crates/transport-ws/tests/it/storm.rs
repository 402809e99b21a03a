//! Clients that come back all at once.

use std::sync::Arc;
use std::time::Duration;

use downbeat_transport::net::ConnectionLimits;
use downbeat_transport::tls::{ClientTls, ServerTls};
use downbeat_transport::{Connection, Connector, Listener};
use downbeat_transport_ws::{WsConnector, WsListener, WsOptions};
use rcgen::{CertificateParams, KeyPair};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::raw::PATIENCE;

/// Far more handshakes than may be under way, and few descriptors for a test.
const CLIENTS: usize = 200;

/// Few handshakes at a time, and fewer still of one address.
fn narrow() -> ConnectionLimits {
    ConnectionLimits { pending: 8, pending_per_address: 4, ..ConnectionLimits::default() }
}

/// Connects all at once, and returns the connections; all of them must be made at the first try.
async fn storm(mut listener: WsListener, client: WsOptions) -> Vec<Connection> {
    let url = listener.url();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let connector = WsConnector::new(&url, client.clone()).unwrap();
        clients.spawn(async move { connector.connect().await });
    }
    let mut kept = Vec::new();
    let accepting = async {
        loop {
            kept.push(listener.accept().await.unwrap());
        }
    };
    let all = async {
        let mut connected = Vec::new();
        while let Some(client) = clients.join_next().await {
            connected.push(client.unwrap().expect("in at the first try"));
        }
        connected
    };
    tokio::select! {
        connected = all => connected,
        () = accepting => Vec::new(),
        () = tokio::time::sleep(PATIENCE) => panic!("not all are in"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_get_in_though_few_handshakes_may_be_under_way() {
    let options = WsOptions { connection_limits: narrow(), ..WsOptions::default() };
    let counters = Arc::clone(&options.counters);
    let listener = WsListener::bind("127.0.0.1:0", options).await.unwrap();
    assert_eq!(storm(listener, WsOptions::default()).await.len(), CLIENTS);
    let seen = counters.snapshot();
    assert_eq!((seen.accepted, seen.handshakes_displaced), (CLIENTS as u64, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_one_address_get_in_with_tls() {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let tls = Some(ServerTls::from_files(&cert_file, &key_file).unwrap());
    let options = WsOptions { connection_limits: narrow(), tls, ..WsOptions::default() };
    let counters = Arc::clone(&options.counters);
    let listener = WsListener::bind("127.0.0.1:0", options).await.unwrap();
    let client_tls = ClientTls::new().with_authorities(&cert_file).unwrap();
    let client = WsOptions { client_tls, ..WsOptions::default() };
    assert_eq!(storm(listener, client).await.len(), CLIENTS);
    let seen = counters.snapshot();
    assert_eq!((seen.accepted, seen.handshakes_displaced, seen.tls_failed), (CLIENTS as u64, 0, 0));
}

#[tokio::test]
async fn an_address_may_have_more_than_its_share_while_there_is_room() {
    let limits = ConnectionLimits {
        pending: 20,
        pending_per_address: 4,
        displace_after: Duration::ZERO,
        ..ConnectionLimits::default()
    };
    let options = WsOptions { connection_limits: limits, ..WsOptions::default() };
    let counters = Arc::clone(&options.counters);
    let mut listener = WsListener::bind("127.0.0.1:0", options).await.unwrap();
    let mut slow = Vec::new();
    for _ in 0..10 {
        slow.push(TcpStream::connect(listener.local_address()).await.unwrap());
    }
    let connector = WsConnector::new(&listener.url(), WsOptions::default()).unwrap();
    let (client, server) = tokio::join!(connector.connect(), listener.accept());
    client.unwrap();
    server.unwrap();
    let seen = counters.snapshot();
    assert_eq!((seen.handshakes_displaced, seen.pending), (0, 10));
}

#[tokio::test]
async fn idle_handshakes_hold_others_up_for_a_moment_only() {
    let limits = ConnectionLimits { displace_after: Duration::from_millis(300), ..narrow() };
    let options = WsOptions { connection_limits: limits, ..WsOptions::default() };
    let counters = Arc::clone(&options.counters);
    let mut listener = WsListener::bind("127.0.0.1:0", options).await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..12 {
        idle.push(TcpStream::connect(listener.local_address()).await.unwrap());
    }
    let connector = WsConnector::new(&listener.url(), WsOptions::default()).unwrap();
    let both = async { tokio::join!(connector.connect(), listener.accept()) };
    let (client, server) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    client.unwrap();
    server.unwrap();
    assert!(counters.snapshot().handshakes_displaced >= 5, "{:?}", counters.snapshot());
}

#[tokio::test]
async fn many_can_wait_until_they_are_accepted() {
    // What systems let a program have by default, if not more.
    let longest = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
    let longest = longest.and_then(|text| text.trim().parse().ok()).unwrap_or(128_usize);
    let listener = WsListener::bind("127.0.0.1:0", WsOptions::default()).await.unwrap();
    let mut waiting = Vec::new();
    for number in 0..longest.min(400) {
        let connecting = TcpStream::connect(listener.local_address());
        let connected = tokio::time::timeout(Duration::from_millis(900), connecting).await;
        waiting.push(connected.unwrap_or_else(|_| panic!("no room for number {number}")).unwrap());
    }
}
