//! The TCP port for other servers, and upstreams over TCP.

use downbeat_transport::Connector;
use downbeat_transport_tcp::{TcpConnector, TcpOptions};
use downbeat_transport_ws::{WsConnector, WsOptions};
use tempfile::TempDir;

use crate::program::{Server, eventually, get, run, stderr, stdout, text};
use crate::tls::write_certificate;

/// Waits until an edge is connected to its only upstream.
fn await_upstream(edge: &Server) {
    eventually("the upstream", || get(&edge.admin(), "/ready").2 == "ready\n");
}

fn metric(server: &Server, name: &str) -> String {
    let (_, _, metrics) = get(&server.admin(), "/metrics");
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    metrics.lines().find_map(value).expect("the metric")
}

#[test]
fn an_edge_connects_over_tcp_and_both_ports_are_counted_together() {
    let core = Server::start(&["--in-memory", "--tcp-port", "0", "--admin-port", "0"]);
    let upstream = core.tcp_url();
    assert!(upstream.starts_with("tcp://127.0.0.1:"), "{upstream}");
    let edge = Server::start(&["--in-memory", "--admin-port", "0", "--upstream", &upstream]);
    await_upstream(&edge);
    assert_eq!(metric(&core, "downbeat_connections"), "1");
    let _other = Server::start(&["--in-memory", "--upstream", &core.url()]);
    eventually("a connection over WebSocket", || metric(&core, "downbeat_connections") == "2");
}

#[test]
fn an_edge_connects_over_tcp_with_tls_and_a_key() {
    let dir = TempDir::new().unwrap();
    write_certificate(dir.path(), "ca.pem");
    let path = |name: &str| dir.path().join(name);
    let (cert, key, authority) = (path("cert.pem"), path("key.pem"), path("ca.pem"));
    let keys = path("keys.toml");
    let added = run(&["key", "add", "edge", "--keys", text(&keys)]);
    let secret = stdout(&added).split_whitespace().last().unwrap().to_owned();
    let tls = ["--tls-cert", text(&cert), "--tls-key", text(&key)];
    let access = ["--access", "keys", "--keys", text(&keys)];
    let core =
        Server::start(&[&["--in-memory", "--tcp-port", "0"], &tls[..], &access[..]].concat());
    let url = core.tcp_url();
    assert!(url.starts_with("tcps://127.0.0.1:"), "{url}");
    let edge_of = |key: &str| {
        let upstream = format!("{url}?key={key}");
        let arguments = ["--in-memory", "--admin-port", "0", "--upstream", &upstream];
        Server::start(&[&arguments[..], &["--upstream-ca", text(&authority)]].concat())
    };
    await_upstream(&edge_of(&secret));
    let refused = edge_of("wrong");
    refused.logged("unauthorized: this access key is unknown");
    assert!(get(&refused.admin(), "/ready").2.contains("is not connected"));
}

#[tokio::test]
async fn both_ports_share_the_limit_on_connections() {
    let server = Server::start(&["--in-memory", "--tcp-port", "0", "--max-connections", "1"]);
    let tcp = TcpConnector::new(&server.tcp_url(), TcpOptions::default()).unwrap();
    let _connection = tcp.connect().await.unwrap();
    let ws = WsConnector::new(&server.url(), WsOptions::default()).unwrap();
    let refused = ws.connect().await.unwrap_err().to_string();
    assert!(refused.contains("503"), "{refused}");
    let refused = tcp.connect().await.unwrap_err().to_string();
    assert!(refused.contains("no room"), "{refused}");
}

#[test]
fn errors_of_urls_and_ports_name_the_setting_and_its_place() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("downbeat.toml");
    for (written, flags, expected) in [
        (
            "upstream = \"tcp://core.example?key=secret\"",
            &[][..],
            "downbeat.toml:1: `upstream`: tcp://core.example?*** is not valid: the URL needs a host \
             and a port",
        ),
        (
            "",
            &["--upstream", "tcps://-core-:4202"],
            "--upstream: `upstream`: tcps://-core-:4202 is not valid: TLS is not possible",
        ),
        ("", &["--upstream", "ws://host:99999"], "ws://host:99999 is not valid: not a URL"),
        ("tcp-port = 4200", &[], "downbeat.toml:1: `tcp-port` is the port for WebSockets"),
        (
            "admin-port = 4202",
            &["--tcp-port", "4202"],
            "--tcp-port: `tcp-port` is the admin port: write another one",
        ),
    ] {
        std::fs::write(&file, written).unwrap();
        let output = run(&[&["config", "--config", text(&file)], flags].concat());
        assert_eq!(output.status.code(), Some(2), "{written} {flags:?}");
        assert!(stderr(&output).contains(expected), "{written} {flags:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("secret"));
    }
}
