//! The limit of open files, which bounds connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::program::{PATIENCE, Server, get};

/// A server with this limit, which a shell sets.
fn server(ulimit: &str) -> Server {
    let script = format!("{ulimit} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_downbeat")]).stdin(Stdio::null());
    command.args(["serve", "--port", "0", "--admin-port", "0", "--in-memory"]);
    command.args(["--max-connections", "300"]);
    Server::spawn(&mut command)
}

/// The HTTP status of an upgrade request, and the connection.
fn upgrade(address: &str) -> (u16, TcpStream) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    let status = std::str::from_utf8(&status).unwrap().strip_prefix("HTTP/1.1 ").unwrap();
    (status.parse().unwrap(), stream)
}

/// Connects until clients are refused, and some more times. Returns the accepted connections. All
/// others were refused with 503, and the admin port answered in between.
fn fill(server: &Server, clients: usize) -> Vec<TcpStream> {
    let mut kept = Vec::new();
    for number in 0..clients {
        match upgrade(&server.address()) {
            (101, stream) => kept.push(stream),
            (status, _) => assert_eq!(status, 503, "client {number}"),
        }
        if number % 20 == 0 {
            let (status, _, body) = get(&server.admin(), "/ready");
            assert_eq!((status, &*body), (200, "ready\n"));
        }
    }
    kept
}

/// How often the log contains a text.
fn count(server: &Server, text: &str) -> usize {
    server.log().matches(text).count()
}

#[test]
fn the_limit_is_raised_as_far_as_it_may_be() {
    let log = server("ulimit -Sn 200").whole_log();
    assert!(!log.contains("is lowered"), "{log}");
}

#[test]
fn fewer_connections_are_taken_where_the_limit_cannot_be_raised_enough() {
    let server = server("ulimit -n 200");
    server.logged("max-connections is lowered because of the limit of open files");
    assert!(
        server.log().contains("max_connections=54 configured=300 limit=200"),
        "{}",
        server.log()
    );
    let kept = fill(&server, 120);
    assert_eq!(kept.len(), 54);
    server.logged("there are as many as `--max-connections` allows");
    assert_eq!(count(&server, "connections refused"), 1, "{}", server.log());
    assert_eq!(count(&server, "is lowered"), 1);
    let (_, _, metrics) = get(&server.admin(), "/metrics");
    assert!(
        metrics.contains("downbeat_connections_refused_total{reason=\"full\"} 66\n"),
        "{metrics}"
    );
    drop(kept);
    crate::program::eventually("room", || upgrade(&server.address()).0 == 101);
}

/// The descriptors run out while the server runs, earlier than it expects.
#[test]
#[cfg(target_os = "linux")]
fn without_descriptors_clients_are_refused_and_the_admin_port_answers() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};

    let server = server("ulimit -n 1000");
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count() as u64;
    let limit = Rlimit { current: Some(open + 12), maximum: Some(1_000) };
    let pid = Pid::from_raw(server.pid().cast_signed()).unwrap();
    prlimit(Some(pid), Resource::Nofile, limit).unwrap();
    let kept = fill(&server, 100);
    // About the number of descriptors: some below the highest one may have been free.
    assert!((1..40).contains(&kept.len()), "{} got in", kept.len());
    server.logged("no file descriptors are left for more");
    // One line per cause, however many clients are refused. On a busy machine there is a second
    // cause: the ports could not accept for a moment.
    assert_eq!(count(&server, "no file descriptors are left for more"), 1, "{}", server.log());
    assert!(count(&server, "WARN") <= 3, "{}", server.log());
    let (_, _, metrics) = get(&server.admin(), "/metrics");
    assert!(
        metrics.contains("downbeat_connections_refused_total{reason=\"no_files\"} "),
        "{metrics}"
    );
    drop(kept);
    crate::program::eventually("room", || upgrade(&server.address()).0 == 101);
}
