//! The limit of open files, which bounds connections.

use std::process::{Command, Stdio};

use crate::program::Server;

/// A server that is started by a shell with this limit.
fn server(ulimit: &str) -> Server {
    let script = format!("{ulimit} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_downbeat")]).stdin(Stdio::null());
    command.args(["serve", "--port", "0", "--in-memory", "--max-connections", "900"]);
    Server::spawn(&mut command)
}

#[test]
fn the_limit_is_raised_as_far_as_it_may_be() {
    let log = server("ulimit -Sn 200").whole_log();
    assert!(!log.contains("too few files"), "{log}");
}

#[test]
fn a_limit_that_cannot_be_raised_enough_is_warned_of() {
    let server = server("ulimit -n 200");
    server.logged("too few files may be open for as many connections");
    assert!(server.log().contains("limit=200"), "{}", server.log());
}
