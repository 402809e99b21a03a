//! Who gets in: keys, origins, limits by address, and clients behind proxies.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use downbeat_transport::net::{ConnectionLimits, ForwardedHeader, TrustedProxies};
use downbeat_transport::{
    Admission, AdmissionRefusal, AdmissionRequest, Admitted, ApiKey, Connection, Connector,
    Listener, TransportError,
};
use downbeat_transport_ws::{WsConnector, WsListener, WsOptions};

use crate::http::ask;
use crate::raw::{RawClient, UPGRADE, accept_nothing};

/// Knows one key and one origin, and remembers what it was asked.
#[derive(Default)]
struct Doorkeeper {
    asked: Mutex<Vec<(IpAddr, String, bool)>>,
    inside: Arc<AtomicUsize>,
}

struct Visitor(Arc<AtomicUsize>);

impl Drop for Visitor {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission for Doorkeeper {
    fn admit(&self, request: &AdmissionRequest<'_>) -> Result<Admitted, AdmissionRefusal> {
        let asked = (request.remote, request.path.to_owned(), request.encrypted);
        self.asked.lock().unwrap().push(asked);
        if request.origin.is_some_and(|origin| origin != "https://app.example") {
            return Err(AdmissionRefusal::forbidden("this origin is not allowed here"));
        }
        match request.key.map(ApiKey::expose) {
            Some("good") => {
                self.inside.fetch_add(1, Ordering::Relaxed);
                Ok(Admitted::labelled("team").holding(Visitor(Arc::clone(&self.inside))))
            }
            Some("revoked") => Err(AdmissionRefusal::forbidden("this key was revoked")),
            Some("busy") => Err(AdmissionRefusal::too_many("too fast", Duration::from_secs(7))),
            Some("later") => {
                Err(AdmissionRefusal::unavailable("not now", Duration::from_millis(10)))
            }
            Some(_) => Err(AdmissionRefusal::unauthorized("this key is not known here")),
            None => Err(AdmissionRefusal::unauthorized("a key is needed: add ?key= to the URL")),
        }
    }
}

fn guarded() -> (WsOptions, Arc<Doorkeeper>) {
    let doorkeeper = Arc::new(Doorkeeper::default());
    let admission: Arc<dyn Admission> = Arc::<Doorkeeper>::clone(&doorkeeper);
    (WsOptions { admission: Some(admission), ..WsOptions::default() }, doorkeeper)
}

fn upgrade(path: &str, headers: &str) -> String {
    UPGRADE
        .replace("GET / ", &format!("GET {path} "))
        .replace("\r\n\r\n", &format!("\r\n{headers}\r\n"))
}

/// A connection of a client that writes these headers.
async fn admitted(options: WsOptions, path: &str, headers: &str) -> (RawClient, Connection) {
    let mut listener = WsListener::bind("127.0.0.1:0", options).await.unwrap();
    let mut client = RawClient::connect(&listener).await;
    let upgrading = async {
        client.write(upgrade(path, headers).as_bytes()).await;
        let head = client.read_head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    };
    let ((), server) = tokio::join!(upgrading, listener.accept());
    (client, server.unwrap())
}

#[tokio::test]
async fn a_refused_client_gets_a_status_and_a_line_of_text() {
    let (options, _) = guarded();
    let counters = Arc::clone(&options.counters);
    for (path, headers, status, body) in [
        ("/", "", "401 Unauthorized", "a key is needed: add ?key= to the URL\n"),
        ("/?key=bad", "", "401 Unauthorized", "this key is not known here\n"),
        ("/?key=revoked", "", "403 Forbidden", "this key was revoked\n"),
        (
            "/?key=good",
            "Origin: https://evil.example\r\n",
            "403 Forbidden",
            "this origin is not allowed here\n",
        ),
        ("/?key=busy", "", "429 Too Many Requests", "too fast\n"),
        ("/?key=later", "", "503 Service Unavailable", "not now\n"),
    ] {
        let response = ask(options.clone(), &upgrade(path, headers)).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{path}: {response}");
        assert!(response.ends_with(&format!("\r\n\r\n{body}")), "{path}: {response}");
        let wait = match path {
            "/?key=busy" => Some("retry-after: 7\r\n"),
            "/?key=later" => Some("retry-after: 1\r\n"),
            _ => None,
        };
        assert!(response.contains(wait.unwrap_or_default()), "{response}");
        assert_eq!(response.contains("retry-after"), wait.is_some(), "{response}");
    }
    let seen = counters.snapshot();
    let expected = [("unauthorized", 2), ("forbidden", 2), ("too_many", 1), ("unavailable", 1)];
    for (reason, count) in expected {
        assert!(seen.refusals().contains(&(reason, count)), "{seen:?}");
    }
    assert_eq!((seen.accepted, seen.open), (0, 0));
}

#[tokio::test]
async fn an_admitted_client_carries_its_label_and_what_is_held_is_given_back_at_the_end() {
    let (options, doorkeeper) = guarded();
    let counters = Arc::clone(&options.counters);
    let headers = "Origin: https://app.example\r\n";
    let (client, server) = admitted(options, "/a/path?key=good", headers).await;
    assert_eq!(server.info.label.as_deref(), Some("team"));
    assert!(!format!("{:?}", server.info).contains("good"));
    let remote = "127.0.0.1".parse().unwrap();
    assert_eq!(*doorkeeper.asked.lock().unwrap(), [(remote, "/a/path".to_owned(), false)]);
    assert_eq!(doorkeeper.inside.load(Ordering::Relaxed), 1);
    assert_eq!(counters.snapshot().open, 1);
    let Connection { sender, receiver, .. } = server;
    drop(sender);
    assert_eq!(doorkeeper.inside.load(Ordering::Relaxed), 1, "half a connection is one");
    drop(receiver);
    assert_eq!(doorkeeper.inside.load(Ordering::Relaxed), 0);
    assert_eq!(counters.snapshot().open, 0);
    drop(client);
}

#[tokio::test]
async fn plain_requests_need_no_key() {
    let (options, doorkeeper) = guarded();
    let counters = Arc::clone(&options.counters);
    let response = ask(options, "GET /health HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(response.ends_with("ok"), "{response}");
    assert!(doorkeeper.asked.lock().unwrap().is_empty());
    assert_eq!(counters.snapshot().http_requests, 1);
}

#[tokio::test]
async fn what_is_no_upgrade_is_not_judged() {
    let (options, doorkeeper) = guarded();
    let counters = Arc::clone(&options.counters);
    let request =
        upgrade("/?key=good", "").replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "");
    let response = ask(options.clone(), &request).await;
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    let response = ask(options, &upgrade("/?key=good", "Origin: \u{fc}\r\n")).await;
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    assert!(doorkeeper.asked.lock().unwrap().is_empty());
    assert_eq!(counters.snapshot().handshakes_malformed, 2);
}

#[tokio::test]
async fn connections_in_all_and_from_an_address_are_limited() {
    for (limits, status, reason) in [
        (ConnectionLimits { total: 1, ..ConnectionLimits::default() }, "503 ", "full"),
        (ConnectionLimits { per_address: 1, ..ConnectionLimits::default() }, "429 ", "address"),
    ] {
        let options = WsOptions { connection_limits: limits, ..WsOptions::default() };
        let counters = Arc::clone(&options.counters);
        let mut listener = WsListener::bind("127.0.0.1:0", options).await.unwrap();
        let connector = WsConnector::new(&listener.url(), WsOptions::default()).unwrap();
        let (first, held) = tokio::join!(connector.connect(), listener.accept());
        first.unwrap();
        let mut second = RawClient::connect(&listener).await;
        second.write(UPGRADE.as_bytes()).await;
        let response = tokio::select! {
            response = second.read_all() => response,
            end = accept_nothing(&mut listener) => end,
        };
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
        assert!(response.contains("retry-after: "), "{response}");
        assert!(counters.snapshot().refusals().contains(&(reason, 1)));
        drop(held);
        let (third, accepted) = tokio::join!(connector.connect(), listener.accept());
        third.unwrap();
        accepted.unwrap();
    }
}

#[tokio::test]
async fn a_client_is_where_its_trusted_proxy_says_it_is() {
    let trusting = WsOptions {
        trusted_proxies: TrustedProxies::new(["127.0.0.0/8".parse().unwrap()]),
        ..WsOptions::default()
    };
    let forged = "X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\nForwarded: for=192.0.2.1\r\n";
    let (_client, server) = admitted(trusting.clone(), "/", forged).await;
    assert_eq!(server.info.address, "203.0.113.7");
    assert_eq!(server.info.remote, Some("203.0.113.7".parse().unwrap()));

    // Other peers may not say so, nor other headers than the one of the proxy.
    let (_client, server) = admitted(WsOptions::default(), "/", forged).await;
    assert!(server.info.address.starts_with("127.0.0.1:"), "{}", server.info.address);
    let mut other = trusting.clone();
    other.trusted_proxies.header = ForwardedHeader::Forwarded;
    let (_client, server) = admitted(other, "/", forged).await;
    assert_eq!(server.info.address, "192.0.2.1");

    let (_client, server) = admitted(trusting, "/", "X-Forwarded-For: \u{fc}\r\n").await;
    assert!(server.info.address.starts_with("127.0.0.1:"), "{}", server.info.address);
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_are_counted_by_their_own_address() {
    let limits = ConnectionLimits { per_address: 1, ..ConnectionLimits::default() };
    let options = WsOptions {
        connection_limits: limits,
        trusted_proxies: TrustedProxies::new(["127.0.0.1".parse().unwrap()]),
        ..WsOptions::default()
    };
    let mut listener = WsListener::bind("127.0.0.1:0", options).await.unwrap();
    let mut kept = Vec::new();
    for (address, status) in [
        ("203.0.113.7", "101"),
        ("203.0.113.8", "101"),
        ("203.0.113.7", "429"),
        ("2001:db8:1:2::1", "101"),
        ("2001:db8:1:2:3::1", "429"),
        ("2001:db8:1:3::1", "101"),
    ] {
        let mut client = RawClient::connect(&listener).await;
        let headers = format!("X-Forwarded-For: {address}\r\n");
        client.write(upgrade("/", &headers).as_bytes()).await;
        let accepting = async {
            loop {
                kept.push(listener.accept().await.unwrap());
            }
        };
        let head = tokio::select! {
            head = client.read_head() => head,
            () = accepting => String::new(),
        };
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{address}: {head}");
    }
}

#[tokio::test]
async fn one_address_cannot_push_out_the_handshakes_of_others() {
    let limits = ConnectionLimits {
        pending: 5,
        pending_per_address: 3,
        displace_after: Duration::ZERO,
        ..ConnectionLimits::default()
    };
    let options = WsOptions { connection_limits: limits, ..WsOptions::default() };
    let counters = Arc::clone(&options.counters);
    let mut listener = WsListener::bind("0.0.0.0:0", options).await.unwrap();
    let port = listener.local_address().port();
    let mut idle = Vec::new();
    for host in ["127.0.0.2", "127.0.0.1"] {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{host}:0").parse().unwrap()).unwrap();
        idle.push(socket.connect(format!("127.0.0.1:{port}").parse().unwrap()).await.unwrap());
        for _ in 0..8 {
            if host == "127.0.0.1" {
                let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                idle.push(stream);
            }
        }
    }
    let waited =
        tokio::time::timeout(Duration::from_millis(300), accept_nothing::<()>(&mut listener)).await;
    assert!(waited.is_err());
    let seen = counters.snapshot();
    assert_eq!(seen.handshakes_displaced, 5, "nine from one address, where there is room for four");
    assert_eq!(seen.pending, 5);
    // The first, from the other address, is still there though it is the oldest.
    let mut first = RawClient { stream: idle.remove(0) };
    first.write(UPGRADE.as_bytes()).await;
    let (head, server) = tokio::join!(first.read_head(), listener.accept());
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    server.unwrap();
}

#[tokio::test]
async fn a_connector_repeats_what_the_server_said_and_not_the_key() {
    let (options, _) = guarded();
    let mut listener = WsListener::bind("127.0.0.1:0", options).await.unwrap();
    let url = format!("{}/?key=revoked", listener.url());
    let connector = WsConnector::new(&url, WsOptions::default()).unwrap();
    let refused = tokio::select! {
        refused = connector.connect() => refused,
        end = accept_nothing(&mut listener) => end,
    };
    match refused {
        Err(TransportError::Refused { reason }) => {
            assert_eq!(reason, "403 Forbidden: this key was revoked");
        }
        other => panic!("{other:?}"),
    }
}
