use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use downbeat_transport::net::ConnectionLimits;
use downbeat_transport::{ApiKey, Connection, Connector, Listener, TransportError};
use downbeat_transport_ws::{
    RouteRequest, RouteResponse, Routes, WsConnector, WsListener, WsOptions,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::raw::{RawClient, UPGRADE, accept_nothing};

/// The whole response to one request.
pub(crate) async fn ask(options: WsOptions, request: &str) -> String {
    let mut listener = WsListener::bind("127.0.0.1:0", options).await.unwrap();
    let mut client = RawClient::connect(&listener).await;
    let asking = async {
        client.write(request.as_bytes()).await;
        client.read_all().await
    };
    tokio::select! {
        response = asking => response,
        end = accept_nothing(&mut listener) => end,
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

#[tokio::test]
async fn health_is_answered_with_ok() {
    let response = ask(WsOptions::default(), &get("/health")).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nok"), "{response}");
}

#[tokio::test]
async fn a_request_without_upgrade_is_told_to_upgrade() {
    let response = ask(WsOptions::default(), &get("/")).await;
    assert!(response.starts_with("HTTP/1.1 426 "), "{response}");
    assert!(response.to_lowercase().contains("\r\nupgrade: websocket\r\n"), "{response}");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_clearly() {
    let response = ask(WsOptions::default(), &get("/favicon.ico")).await;
    assert!(response.starts_with("HTTP/1.1 404 "), "{response}");
    let request = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello";
    let response = ask(WsOptions::default(), request).await;
    assert!(response.starts_with("HTTP/1.1 405 "), "{response}");
}

#[tokio::test]
async fn an_upgrade_that_is_none_is_refused_clearly() {
    for (cut, status) in [
        ("Sec-WebSocket-Version: 13\r\n", "426"),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "400"),
        ("Connection: keep-alive, Upgrade\r\n", "400"),
    ] {
        let request = UPGRADE.replace(cut, "");
        assert_ne!(request, UPGRADE);
        let response = ask(WsOptions::default(), &request).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{cut}: {response}");
    }
    let request = UPGRADE.replace("GET / ", "GET /?key=%ff ");
    let response = ask(WsOptions::default(), &request).await;
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
}

#[tokio::test]
async fn headers_that_may_repeat_are_read_in_all_their_lines() {
    for (line, lines) in [
        ("Connection: keep-alive, Upgrade", "Connection: keep-alive\r\nConnection: Upgrade"),
        ("Connection: keep-alive, Upgrade", "Connection: Upgrade\r\nConnection: keep-alive"),
        ("Connection: keep-alive, Upgrade", "Connection:keep-alive,\tupgrade"),
        ("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: WebSocket"),
        ("Upgrade: websocket", "Upgrade: h2c, websocket"),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Version: 13"),
        ("Host: test", "Host: test\r\nSec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b"),
        ("Host: test", "Host: test\r\nSec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: b"),
    ] {
        let request = UPGRADE.replace(line, lines);
        assert_ne!(request, UPGRADE);
        let mut listener = WsListener::bind("127.0.0.1:0", WsOptions::default()).await.unwrap();
        let mut client = RawClient::connect(&listener).await;
        let upgrading = async {
            client.write(request.as_bytes()).await;
            client.read_head().await
        };
        let mut kept = None;
        let accepting = async {
            loop {
                kept = Some(listener.accept().await.unwrap());
            }
        };
        let head = tokio::select! {
            head = upgrading => head,
            () = accepting => String::new(),
        };
        assert!(head.starts_with("HTTP/1.1 101 "), "{lines}: {head}");
        // Nothing is chosen of what was offered.
        assert!(!head.contains("sec-websocket-protocol"), "{head}");
        assert!(!head.contains("sec-websocket-extensions"), "{head}");
    }
}

#[tokio::test]
async fn headers_that_must_not_repeat_are_refused_when_they_do() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for (line, lines) in [
        (key, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Key: x"),
        ("Host: test", "Host: test\r\nOrigin: https://a.example\r\nOrigin: https://b.example"),
    ] {
        let request = UPGRADE.replace(line, lines);
        assert_ne!(request, UPGRADE);
        let response = ask(WsOptions::default(), &request).await;
        assert!(response.starts_with("HTTP/1.1 400 "), "{lines}: {response}");
    }
}

/// What a connector makes of this answer to its upgrade; `{accept}` stands for the right one.
async fn answered(answer: &str) -> Result<Connection, TransportError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/path?key=secret", listener.local_addr().unwrap());
    let answering = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut server = RawClient { stream };
        let head = server.read_head().await;
        assert!(head.starts_with("GET /path?key=secret HTTP/1.1\r\n"), "{head}");
        let headers = head.lines().filter_map(|line| line.split_once(": "));
        let (_, key) = { headers }
            .find(|(name, _)| name.eq_ignore_ascii_case("Sec-WebSocket-Key"))
            .expect("a key");
        let accept = derive_accept_key(key.as_bytes());
        server.write(answer.replace("{accept}", &accept).as_bytes()).await;
        // A first frame right behind the answer.
        server.write(&[0x81, 2, b'{', b'}']).await;
        server
    };
    let connector = WsConnector::new(&url, WsOptions::default()).unwrap();
    let (connected, _server) = tokio::join!(connector.connect(), answering);
    let mut connection = connected?;
    let incoming = connection.receiver.receive().await.unwrap().unwrap();
    assert_eq!(incoming.bytes, 2);
    Ok(connection)
}

#[tokio::test]
async fn a_connector_reads_all_lines_of_an_answer() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n";
    answered(answer).await.unwrap();
    for lines in
        ["Connection: keep-alive\r\nConnection: upgrade", "Connection: keep-alive, upgrade"]
    {
        let answer = answer.replace("Connection: Upgrade", lines);
        answered(&answer).await.unwrap_or_else(|error| panic!("{lines}: {error}"));
    }
    for (right, wrong) in [
        ("Connection: Upgrade", "Connection: keep-alive"),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("{accept}", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Extensions: bzip"),
        ("Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Protocol: other"),
        ("HTTP/1.1 101 Switching Protocols", "HTTP/2 101"),
    ] {
        let refused = answered(&answer.replacen(right, wrong, 1)).await;
        assert!(matches!(refused, Err(TransportError::Protocol(_))), "{wrong}: {refused:?}");
    }
}

#[tokio::test]
async fn headers_over_the_limit_are_refused() {
    let options = WsOptions::default();
    let request = format!("GET /health HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(20_000));
    let response = ask(options.clone(), &request).await;
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
    let request = format!("GET /health HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(200));
    let response = ask(options.clone(), &request).await;
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
    assert_eq!(options.counters.snapshot().handshakes_too_large, 2);
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let options = WsOptions::default();
    let response = ask(options.clone(), "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await;
    assert!(response.is_empty() || response.starts_with("HTTP/1.1 400 "), "{response}");
    assert_eq!(options.counters.snapshot().handshakes_malformed, 1);
}

struct Metrics;

#[async_trait]
impl Routes for Metrics {
    async fn respond(&self, request: RouteRequest<'_>) -> Option<RouteResponse> {
        match request.path {
            "/metrics" => Some(RouteResponse::text(200, format!("{:?}", request.query))),
            "/broken" => Some(RouteResponse::text(7, "no such status")),
            "/slow" => std::future::pending().await,
            _ => None,
        }
    }
}

#[tokio::test]
async fn routes_answer_what_the_listener_does_not_know() {
    let options = WsOptions {
        routes: Some(Arc::new(Metrics)),
        handshake_timeout: Duration::from_millis(500),
        ..WsOptions::default()
    };
    let response = ask(options.clone(), &get("/metrics?a=b")).await;
    assert!(response.ends_with("\r\n\r\nSome(\"a=b\")"), "{response}");
    assert!(ask(options.clone(), &get("/health")).await.ends_with("ok"));
    assert!(ask(options.clone(), &get("/other")).await.starts_with("HTTP/1.1 404 "));
    assert!(ask(options.clone(), &get("/broken")).await.starts_with("HTTP/1.1 500 "));
    assert_eq!(ask(options, &get("/slow")).await, "", "given up in time");
}

#[tokio::test]
async fn upgrades_are_accepted_on_any_path_and_the_key_is_kept() {
    let mut listener = WsListener::bind("127.0.0.1:0", WsOptions::default()).await.unwrap();
    for (path, key) in [
        ("", None),
        ("/any/path", None),
        ("/?key=you@example.com", Some("you@example.com")),
        ("/x?a=b&key=a%20b", Some("a b")),
    ] {
        let url = format!("{}{path}", listener.url());
        let connector = WsConnector::new(&url, WsOptions::default()).unwrap();
        let (client, server) = tokio::join!(connector.connect(), listener.accept());
        let info = server.unwrap().info;
        assert_eq!(info.key.as_ref().map(ApiKey::expose), key, "{path}");
        assert!(info.address.starts_with("127.0.0.1:"), "{}", info.address);
        assert!(!client.unwrap().info.address.contains("key"));
    }
}

#[tokio::test]
async fn a_slow_handshake_is_given_up_and_holds_up_nobody() {
    let options =
        WsOptions { handshake_timeout: Duration::from_millis(700), ..WsOptions::default() };
    let counters = Arc::clone(&options.counters);
    let mut listener = WsListener::bind("127.0.0.1:0", options).await.unwrap();
    let mut slow = RawClient::connect(&listener).await;
    let connector = WsConnector::new(&listener.url(), WsOptions::default()).unwrap();
    let dribbling = async {
        let begun = Instant::now();
        for byte in UPGRADE.bytes().cycle() {
            let written = tokio::io::AsyncWriteExt::write_all(&mut slow.stream, &[byte]).await;
            if written.is_err() || begun.elapsed() > Duration::from_secs(10) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        begun.elapsed()
    };
    let others = async {
        let begun = Instant::now();
        let (client, server) = tokio::join!(connector.connect(), listener.accept());
        client.unwrap();
        server.unwrap();
        let elapsed = begun.elapsed();
        // Until the dribbling client has noticed.
        tokio::select! {
            end = accept_nothing(&mut listener) => end,
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
        elapsed
    };
    let (slow, others) = tokio::join!(dribbling, others);
    assert!(others < Duration::from_millis(600), "others waited {others:?}");
    assert!(slow > Duration::from_millis(600) && slow < Duration::from_secs(5), "{slow:?}");
    let seen = counters.snapshot();
    assert_eq!((seen.handshakes_timed_out, seen.pending), (1, 0));
}

#[tokio::test]
async fn the_oldest_handshakes_make_room_for_new_ones() {
    let limits = ConnectionLimits {
        pending: 3,
        displace_after: Duration::from_millis(50),
        ..ConnectionLimits::default()
    };
    let options = WsOptions { connection_limits: limits, ..WsOptions::default() };
    let mut listener = WsListener::bind("127.0.0.1:0", options.clone()).await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..10 {
        idle.push(RawClient::connect(&listener).await);
    }
    let connector = WsConnector::new(&listener.url(), options).unwrap();
    let (client, server) = tokio::join!(connector.connect(), listener.accept());
    client.unwrap();
    server.unwrap();
    let mut ended = 0;
    for client in &mut idle {
        let mut byte = [0];
        let reading = tokio::io::AsyncReadExt::read(&mut client.stream, &mut byte);
        if let Ok(end) = tokio::time::timeout(Duration::from_millis(20), reading).await {
            assert!(matches!(end, Ok(0) | Err(_)));
            ended += 1;
        }
    }
    assert!(ended >= 7, "only {ended} of 10 idle handshakes were given up");
}

#[tokio::test]
async fn a_connector_says_why_it_was_refused() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let refusing = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1_000];
        tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap();
        let refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 8\r\n\r\nbad key\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, refusal).await.unwrap();
        stream
    };
    let connector = WsConnector::new(&url, WsOptions::default()).unwrap();
    let (refused, _stream) = tokio::join!(connector.connect(), refusing);
    match refused {
        Err(TransportError::Refused { reason }) => {
            assert_eq!(reason, "401 Unauthorized: bad key");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_connector_gives_up_on_a_server_that_says_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let options =
        WsOptions { handshake_timeout: Duration::from_millis(200), ..WsOptions::default() };
    let refused = WsConnector::new(&url, options).unwrap().connect().await;
    assert!(matches!(refused, Err(TransportError::TimedOut { .. })), "{refused:?}");
}
