//! Shutdowns and their exit codes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_crypto::{AgentSecret, random_session_id};
use downbeat_node::Node;
use downbeat_protocol::{CoValueId, Header, Owner, Ruleset, Transaction};
use downbeat_storage::MemoryStorage;
use downbeat_transport_ws::{WsConnector, WsOptions};
use tempfile::TempDir;

use crate::program::{PATIENCE, Server, eventually, get, run, stderr, text};

/// A node in this test with the server as its upstream.
fn client_of(server: &Server) -> Node {
    let connector = WsConnector::new(&server.url(), WsOptions::default()).unwrap();
    let storage = Arc::new(MemoryStorage::new());
    Node::builder(storage).upstream(Arc::new(connector)).start().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_stop_in_the_middle_of_writing_is_there_afterwards() {
    let dir = TempDir::new().unwrap();
    let storage = format!("sled:{}", text(&dir.path().join("data")));
    let mut server = Server::start(&["--storage", &storage]);
    let node = client_of(&server);
    let me = AgentSecret::generate().unwrap();
    let session = random_session_id(&Owner::Agent(me.agent())).unwrap();
    let header = Header::builder("comap", Ruleset::UnsafeAllowAll).build().unwrap();
    let mut map = node.local().create(header).await.unwrap();
    let id = map.id();
    let mut acknowledged = 0_u64;
    loop {
        let transaction = Transaction::trusting("[]", 1_700_000_000_000 + acknowledged, None);
        map.append(&session, [transaction], me.signer_secret()).await.unwrap();
        let within = if acknowledged < 50 { PATIENCE } else { Duration::from_secs(3) };
        if map.synced(within).await.is_err() {
            break;
        }
        acknowledged += 1;
        if acknowledged == 50 {
            server.signal("TERM");
        }
    }
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    assert!(acknowledged >= 50);
    node.shutdown().await.unwrap();

    let server = Server::start(&["--storage", &storage]);
    let node = client_of(&server);
    let copy = node.local().load(id, std::time::Duration::from_secs(10)).await.unwrap();
    let stored = copy.content().session(&session).unwrap().transactions().len() as u64;
    assert!(stored >= acknowledged, "{stored} of {acknowledged}");
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_hold_up_a_stop_for_three_seconds() {
    let mut server = Server::start(&["--in-memory", "--admin-port", "0"]);
    let node = client_of(&server);
    let me = AgentSecret::generate().unwrap();
    let session = random_session_id(&Owner::Agent(me.agent())).unwrap();
    let header = Header::builder("comap", Ruleset::UnsafeAllowAll).build().unwrap();
    let mut map = node.local().create(header).await.unwrap();
    // More than the buffers of a socket hold.
    let text = format!("[\"{}\"]", "x".repeat(800_000));
    for number in 0..10 {
        let transaction = Transaction::trusting(&text, 1_700_000_000_000 + number, None);
        map.append(&session, [transaction], me.signer_secret()).await.unwrap();
    }
    map.synced(PATIENCE).await.unwrap();
    let stuck: Vec<_> =
        (0..50).map(|_| load_and_do_not_read(&server.address(), map.id())).collect();
    eventually("their requests", || {
        let (_, _, metrics) = get(&server.admin(), "/metrics");
        let loads = "downbeat_messages_total{direction=\"received\",action=\"load\"} ";
        let count = metrics.lines().find_map(|line| line.strip_prefix(loads)).unwrap();
        count.parse::<usize>().unwrap() >= stuck.len()
    });
    let started = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    // Two seconds more for a busy machine. Waits one after the other would take eight.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    drop(stuck);
    node.shutdown().await.unwrap();
}

/// A client that asks for a CoValue and does not read it.
fn load_and_do_not_read(address: &str, id: CoValueId) -> TcpStream {
    let load = format!(r#"{{"action":"load","id":"{id}","header":false,"sessions":{{}}}}"#);
    let handshake = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(handshake.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 12]).unwrap();
    // A mask of zeros does not change the text.
    let length = 0x80 | u8::try_from(load.len()).unwrap();
    let frame = [&[0x81, length, 0, 0, 0, 0], load.as_bytes()].concat();
    stream.write_all(&frame).unwrap();
    stream
}

#[test]
fn both_signals_to_stop_end_the_server_in_order() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&["--in-memory", "--drain-time", "5s"]);
        server.signal(signal);
        assert_eq!(server.ended().code(), Some(0));
        assert!(server.log().contains(&format!("SIG{signal}: storing")), "{}", server.log());
    }
}

#[test]
fn a_port_that_is_taken_is_a_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = run(&["serve", "--in-memory", "--port", &port]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot listen on 127.0.0.1:"), "{}", stderr(&output));
    let output = run(&["serve", "--in-memory", "--port", "0", "--admin-port", &port]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot listen on 127.0.0.1:"), "{}", stderr(&output));
}

#[test]
fn a_command_line_that_makes_no_sense_is_told_from_a_failure() {
    assert_eq!(run(&["serve", "--no-such-flag"]).status.code(), Some(2));
    assert_eq!(run(&["serve", "--port", "x"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(run(&["--version"]).status.code(), Some(0));
}

#[test]
fn json_logs_are_one_object_a_line() {
    let mut server = Server::start(&["--in-memory", "--log-format", "json"]);
    server.signal("TERM");
    server.ended();
    let log = server.log();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
    }
    assert!(log.lines().count() > 0);
}
