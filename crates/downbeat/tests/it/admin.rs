//! The admin port, and its public part.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use downbeat_transport::Connector;
use downbeat_transport_ws::{WsConnector, WsOptions};

use crate::program::{Server, eventually, get, get_from, get_with};

#[test]
fn health_and_ready_are_public_and_nothing_else_is() {
    let server = Server::start(&["--in-memory", "--admin-port", "0"]);
    let status = |path| get(&server.address(), path).0;
    assert_eq!(status("/health"), 200);
    assert_eq!(status("/ready"), 200);
    for path in ["/metrics", "/status.json", "/page.js"] {
        assert_eq!(status(path), 404, "{path}");
    }
    assert_eq!(status("/"), 426, "the public port has no page");
}

#[test]
fn without_an_admin_port_there_is_none() {
    let server = Server::start(&["--in-memory"]);
    assert!(!server.said.contains("http://"), "{}", server.said);
    assert_eq!(get(&server.address(), "/metrics").0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_follow_what_happens() {
    let server = Server::start(&["--in-memory", "--admin-port", "0"]);
    let metrics = || get(&server.admin(), "/metrics");
    let (status, head, body) = metrics();
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("downbeat_peers{role=\"client\"} 0\n"), "{body}");

    let connector = WsConnector::new(&server.url(), WsOptions::default()).unwrap();
    let connection = connector.connect().await.unwrap();
    eventually("a client", || metrics().2.contains("downbeat_peers{role=\"client\"} 1\n"));
    assert!(metrics().2.contains("downbeat_connections_accepted_total 1\n"), "{}", metrics().2);
    drop(connection);
    eventually("its end", || metrics().2.contains("downbeat_peers{role=\"client\"} 0\n"));
}

#[test]
fn metrics_come_in_the_format_that_the_collector_asks_for() {
    let server = Server::start(&["--in-memory", "--admin-port", "0"]);
    let metrics = |accept: &str| {
        let (status, head, body) =
            get_with(&server.admin(), "/metrics", &format!("Host: localhost\r\n{accept}"));
        assert_eq!(status, 200);
        let content_type = head.lines().find_map(|line| line.strip_prefix("content-type: "));
        (content_type.unwrap().to_owned(), body)
    };
    let (content_type, open) = metrics("Accept: application/openmetrics-text;version=1.0.0\r\n");
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.contains("# TYPE downbeat_http_requests counter\n"), "{open}");
    assert!(open.ends_with("# EOF\n"));
    let (content_type, plain) = metrics("Accept: */*\r\n");
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    assert!(plain.contains("# TYPE downbeat_http_requests_total counter\n"), "{plain}");
    assert!(!plain.contains("# EOF") && !plain.contains("# UNIT"), "{plain}");
}

#[test]
fn the_last_bucket_of_every_histogram_is_infinite_and_has_everything() {
    let server = Server::start(&["--in-memory", "--admin-port", "0"]);
    let (_, _, metrics) = get(&server.admin(), "/metrics");
    let mut histograms = 0;
    for line in metrics.lines().filter(|line| line.starts_with("# TYPE ")) {
        let Some(name) = line["# TYPE ".len()..].strip_suffix(" histogram") else { continue };
        let value = |sample: String| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(&sample));
            line.unwrap_or_else(|| panic!("no {sample} in\n{metrics}")).trim().to_owned()
        };
        let last = value(format!("{name}_bucket{{le=\"+Inf\"}}"));
        assert_eq!(last, value(format!("{name}_count")));
        histograms += 1;
    }
    assert_eq!(histograms, 4, "{metrics}");
}

#[test]
fn ready_names_an_upstream_that_is_away_and_stays_ready() {
    let arguments = ["--in-memory", "--admin-port", "0", "--upstream", "ws://127.0.0.1:9"];
    let server = Server::start(&arguments);
    let (status, _, body) = get(&server.admin(), "/ready");
    assert_eq!(status, 200);
    assert!(body.contains("the upstream ws://127.0.0.1:9/ is not connected"), "{body}");
    assert_eq!(get(&server.address(), "/ready").2, "ready\n", "strangers are not told");
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let server = Server::start(&["--in-memory", "--admin-port", "0"]);
    let (status, head, page) = get(&server.admin(), "/");
    assert_eq!(status, 200);
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    for part in ["/page.css", "/page.js"] {
        let (status, _, text) = get(&server.admin(), part);
        assert_eq!(status, 200);
        assert!(page.contains(&part[1..]));
        let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("//www.") && !elsewhere.contains("https://"), "{part}");
    }
    let (_, _, status) = get(&server.admin(), "/status.json");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["access"], "open");
    assert_eq!(status["ready"], true);
}

#[test]
fn a_name_from_elsewhere_that_stands_for_this_machine_is_refused() {
    for host in ["127.0.0.1", "0.0.0.0"] {
        let port = ["--in-memory", "--admin-port", "0", "--admin-host", host];
        let server =
            Server::start(&[&port[..], &["--admin-allowed-host", "sync.internal"]].concat());
        let address = server.admin().replace("0.0.0.0", "127.0.0.1");
        let status = |name| get_from(&address, "/metrics", name).0;
        assert_eq!(status("evil.example"), 421, "{host}");
        for name in ["localhost", "127.0.0.1:4201", "sync.internal:4201"] {
            assert_eq!(status(name), 200, "{name} at {host}");
        }
    }
}

#[test]
fn slow_clients_make_room_for_others() {
    let server = Server::start(&["--in-memory", "--admin-port", "0"]);
    let mut slow = Vec::new();
    for _ in 0..400 {
        let mut stream = TcpStream::connect(server.admin()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: loc").unwrap();
        slow.push(stream);
    }
    let started = Instant::now();
    for path in ["/health", "/metrics"] {
        assert_eq!(get(&server.admin(), path).0, 200);
    }
    // A wait of 15 s for each group of slow clients would take minutes.
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    drop(slow);
}
