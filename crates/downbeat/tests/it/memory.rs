//! Memory of a burst of work goes back to the system.

use std::fs;

use downbeat_protocol::{CoValueId, KnownState, Message, SessionCounts, SessionId};
use downbeat_transport::{Connection, Connector};
use downbeat_transport_ws::{WsConnector, WsOptions};

use crate::program::{Server, eventually};

/// Connections of the burst, and the sessions that each claims to know: blocks of a few hundred
/// bytes, which lie between those of other connections.
const CONNECTIONS: usize = 24;
const SESSIONS: usize = 20_000;

fn resident(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A number as base58 digits.
fn digits(number: usize) -> String {
    format!("{number:08}").replace('0', "z")
}

fn claim(connection: usize) -> Message {
    let id = CoValueId::parse(&format!("co_z{}", digits(connection))).unwrap();
    let mut sessions = SessionCounts::new();
    for session in 0..SESSIONS {
        let account = digits(connection * SESSIONS + session);
        let session = SessionId::parse(&format!("co_z{account}_session_z{account}")).unwrap();
        sessions.set(&session, 1);
    }
    Message::Load(KnownState { id, header: true, sessions })
}

async fn connect(server: &Server) -> Connection {
    let connector = WsConnector::new(&server.url(), WsOptions::default()).unwrap();
    connector.connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_of_a_burst_is_returned_within_a_minute() {
    let server = Server::start(&["--in-memory"]);
    // Warm: what a server has for its first connection stays.
    let mut first = connect(&server).await;
    first.sender.send(&[claim(CONNECTIONS)]).await.unwrap();
    first.receiver.receive().await.unwrap();
    let before = resident(&server);

    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let mut connection = connect(&server).await;
        connection.sender.send(&[claim(number)]).await.unwrap();
        connections.push(connection);
    }
    let mut peak = before;
    eventually("the memory of the burst", || {
        peak = peak.max(resident(&server));
        peak > before + (24 << 20)
    });
    drop(connections);
    let enough = before + (peak - before) / 3;
    eventually("less memory", || resident(&server) <= enough);
}
