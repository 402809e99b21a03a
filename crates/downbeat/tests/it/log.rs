//! A stalled log does not block the server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ChildStderr;

use downbeat_transport::Connector;
use downbeat_transport_ws::{WsConnector, WsOptions};

use crate::program::{PATIENCE, Server, downbeat, eventually, get};

/// A WebSocket handshake, and the end of the connection.
fn come_and_go(address: &str) {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 12]).expect("the server answers");
}

fn dropped_lines(server: &Server) -> u64 {
    let (_, _, metrics) = get(&server.admin(), "/metrics");
    let mut lines = metrics.lines();
    let line = lines.find_map(|line| line.strip_prefix("downbeat_log_lines_dropped_total "));
    line.expect("the metric").parse().unwrap()
}

/// A server that logs every connection to a full pipe without a reader.
fn stalled() -> (Server, ChildStderr) {
    let mut command = downbeat();
    command.args(["serve", "--port", "0", "--in-memory", "--admin-port", "0", "--log", "debug"]);
    let (server, log) = Server::spawn_unread(&mut command);
    let mut count = 0;
    while dropped_lines(&server) == 0 {
        for _ in 0..100 {
            come_and_go(&server.address());
        }
        count += 100;
        assert!(count < 20_000, "the pipe takes everything");
    }
    (server, log)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_log_is_not_read_goes_on_and_stops_when_told_to() {
    let (mut server, log) = stalled();
    assert_eq!(get(&server.address(), "/health").0, 200);
    assert_eq!(get(&server.admin(), "/ready").0, 200);
    let connector = WsConnector::new(&server.url(), WsOptions::default()).unwrap();
    let mut connection = connector.connect().await.unwrap();
    let ping = tokio::time::timeout(PATIENCE, connection.receiver.receive()).await;
    assert!(matches!(ping, Ok(Ok(Some(_)))), "no ping: {ping:?}");
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    drop(log);
}

#[test]
fn lines_that_were_dropped_are_reported_when_the_log_is_read_again() {
    let (server, mut log) = stalled();
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains("log lines were dropped") {
        let read = log.read(&mut buffer).unwrap();
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(text.contains("dropped="), "{text}");
    drop(server);
}

#[test]
fn connections_are_not_logged_one_by_one() {
    let server = Server::start(&["--in-memory", "--admin-port", "0"]);
    for _ in 0..5 {
        come_and_go(&server.address());
    }
    eventually("their end", || {
        let (_, _, metrics) = get(&server.admin(), "/metrics");
        metrics.contains("downbeat_connections_accepted_total 5\n")
            && metrics.contains("downbeat_peers{role=\"client\"} 0\n")
    });
    let log = server.whole_log();
    assert!(log.lines().count() < 5, "{log}");
}
