//! Access: keys that are added and revoked while the server runs, sites, and warnings about public
//! addresses.

use std::io::{Read, Write};
use std::path::Path;

use downbeat_protocol::{CoValueId, SHORT_HASH_LEN};
use downbeat_transport::{Connection, Connector, TransportError};
use downbeat_transport_ws::{WsConnector, WsOptions};
use tempfile::TempDir;

use crate::program::{PATIENCE, Server, downbeat, eventually, get, run, stderr, stdout, text};

async fn connect(url: &str) -> Result<Connection, TransportError> {
    WsConnector::new(url, WsOptions::default()).unwrap().connect().await
}

/// Why a client is refused.
async fn refused(url: &str) -> String {
    match connect(url).await {
        Err(TransportError::Refused { reason }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

/// `downbeat key` with a key file.
fn key(file: &Path, arguments: &[&str]) -> String {
    let output =
        downbeat().arg("key").args(arguments).args(["--keys", text(file)]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output).trim().to_owned()
}

/// Waits until the server has closed the connection, and returns the reason.
async fn end_of(connection: &mut Connection) -> String {
    let receiving = async {
        loop {
            match connection.receiver.receive().await {
                Ok(Some(_)) => {}
                Ok(None) => return "closed".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    };
    tokio::time::timeout(PATIENCE, receiving).await.expect("the connection goes on")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_the_door_until_it_is_revoked_and_then_ends_its_connections() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("keys.toml");
    let first = key(&file, &["add", "first"]);
    let server = Server::start(&["--in-memory", "--access", "keys", "--keys", text(&file)]);
    let with = |key: &str| format!("{}/?key={key}", server.url());

    assert!(refused(&server.url()).await.contains("401 Unauthorized: an access key is required"));
    assert!(refused(&with("wrong")).await.contains("401 Unauthorized: this access key is unknown"));
    let mut connected = connect(&with(&first)).await.unwrap();

    // A key that is added while the server runs.
    let second = key(&file, &["add", "second", "--max-connections", "1"]);
    server.logged("reloaded the keys");
    let mut other = connect(&with(&second)).await.unwrap();
    assert!(refused(&with(&second)).await.contains("429"), "one connection is all it may have");

    key(&file, &["revoke", "first"]);
    end_of(&mut connected).await;
    server.logged("closed the connections of revoked keys");
    assert!(refused(&with(&first)).await.contains("401"));
    let still = tokio::time::timeout(std::time::Duration::from_secs(2), other.receiver.receive());
    assert!(matches!(still.await, Ok(Ok(Some(_)))), "the other key's connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_series_of_a_revoked_key_vanish() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("keys.toml");
    let storage = format!("sqlite:{}", text(&dir.path().join("data.db")));
    let first = key(&file, &["add", "first"]);
    key(&file, &["add", "second"]);
    let arguments = ["--storage", &storage, "--access", "keys", "--keys", text(&file)];
    let start = || Server::start(&[&arguments[..], &["--admin-port", "0"]].concat());
    let has = |server: &Server, name: &str| {
        let (_, _, metrics) = get(&server.admin(), "/metrics");
        let labelled = format!("{{key=\"{name}\"}}");
        ["downbeat_key_connections", "downbeat_key_stored_bytes"]
            .map(|metric| metrics.contains(&format!("{metric}{labelled}")))
    };
    // The stored bytes of a former key are known, but it has no series.
    let usage = dir.path().join("data.db.usage");
    std::fs::write(&usage, r#"{"keys":{"gone":5,"first":7},"accounts":{}}"#).unwrap();

    let server = start();
    let connected = connect(&format!("{}/?key={first}", server.url())).await.unwrap();
    assert_eq!(has(&server, "first"), [true; 2]);
    assert_eq!(has(&server, "second"), [true; 2]);
    assert_eq!(has(&server, "gone"), [false; 2]);
    key(&file, &["revoke", "first"]);
    server.logged("closed the connections of revoked keys");
    eventually("the end of its series", || has(&server, "first") == [false; 2]);
    assert_eq!(has(&server, "second"), [true; 2]);
    drop(connected);
    key(&file, &["add", "first"]);
    eventually("its series", || has(&server, "first") == [true; 2]);
    let (_, _, metrics) = get(&server.admin(), "/metrics");
    let stored = "downbeat_key_stored_bytes{key=\"first\"} 7\n";
    assert!(metrics.contains(stored), "what was stored still counts: {metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_breaks_leaves_the_keys_as_they_were() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("keys.toml");
    let secret = key(&file, &["add", "app"]);
    let server = Server::start(&["--in-memory", "--access", "keys", "--keys", text(&file)]);
    std::fs::write(&file, "[[key]]\nname = \"app\"\n").unwrap();
    server.logged("keys.toml:1: `hash` is missing");
    connect(&format!("{}/?key={secret}", server.url())).await.unwrap();
}

#[test]
fn keys_are_shown_once_and_kept_as_hashes() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("keys.toml");
    let secret = key(&file, &["add", "app", "--max-stored", "1GiB"]);
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(!written.contains(&secret) && written.contains("hash = \"blake3:"), "{written}");
    let list = key(&file, &["list"]);
    assert!(list.starts_with("app ") && list.contains("max-stored 1 GiB"), "{list}");
    let listed: serde_json::Value = serde_json::from_str(&key(&file, &["list", "--json"])).unwrap();
    assert_eq!(listed[0]["name"], "app");

    // The same file, from the configuration.
    let config = dir.path().join("downbeat.toml");
    std::fs::write(&config, format!("keys = '{}'\n", text(&file))).unwrap();
    let output = run(&["key", "revoke", "app", "--config", text(&config)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = run(&["key", "revoke", "app", "--config", text(&config)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the key app is not in"));
}

#[test]
fn a_chosen_key_that_could_be_guessed_is_refused() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("keys.toml");
    for (chosen, code) in [("hunter2\n", Some(1)), ("k3VbQ0xNz7Rm1tYpW9sLd4Ja\n", Some(0))] {
        let input = dir.path().join("chosen");
        std::fs::write(&input, chosen).unwrap();
        let output = downbeat()
            .args(["key", "add", "app", "--stdin", "--keys", text(&file)])
            .stdin(std::fs::File::open(&input).unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), code, "{}", stderr(&output));
    }
}

#[test]
fn without_a_key_file_it_is_said_how_to_begin_one() {
    let output = run(&["key", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("set it with --keys FILE"), "{}", stderr(&output));
    let arguments = ["serve", "--port", "0", "--access", "keys", "--keys", "no-such-keys.toml"];
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`downbeat key add NAME --keys FILE` creates one"));
}

#[test]
fn a_public_address_that_is_open_is_warned_of() {
    let open = Server::start(&["--in-memory", "--host", "0.0.0.0"]);
    open.logged("every client that can reach this address can store data here");
    let local = Server::start(&["--in-memory"]);
    let admin = ["--in-memory", "--admin-port", "0", "--admin-host", "0.0.0.0"];
    let admin = Server::start(&admin);
    admin.logged("the admin port is reachable from other machines");
    let log = local.whole_log();
    assert!(!log.contains("can reach") && !log.contains("reachable"), "{log}");
}

#[test]
fn keys_that_come_unencrypted_to_a_public_address_are_warned_of() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("keys.toml");
    key(&file, &["add", "app"]);
    let keys = ["--in-memory", "--access", "keys", "--keys", text(&file)];
    let start = |more: &[&str]| Server::start(&[&keys[..], more].concat());
    let public = start(&["--host", "0.0.0.0"]);
    public.logged("clients send access keys to this address unencrypted");
    let proxied = start(&["--host", "0.0.0.0", "--trusted-proxy", "10.0.0.0/8"]);
    let local = start(&[]);
    for server in [proxied, local] {
        let log = server.whole_log();
        assert!(!log.contains("unencrypted"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_list_is_read_again_when_it_changes() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("accounts");
    let id = |byte| CoValueId::from_short_hash(&[byte; SHORT_HASH_LEN]);
    std::fs::write(&file, format!("{} # Ada\n", id(1))).unwrap();
    let server = Server::start(&["--in-memory", "--access", "accounts", "--accounts", text(&file)]);
    connect(&server.url()).await.unwrap();
    std::fs::write(&file, format!("{}\n{}\n{}\n", id(1), id(2), id(3))).unwrap();
    eventually("the list", || server.log().contains("accounts=3"));

    std::fs::write(&file, "").unwrap();
    server.logged("the file is empty, as if it were still being written");
    assert!(!server.log().contains("accounts=0"), "{}", server.log());
    server.signal("HUP");
    eventually("the empty list", || server.log().contains("accounts=0"));
}

#[test]
fn pages_of_other_sites_may_not_connect_where_sites_are_named() {
    let sites = ["--allowed-origin", "https://app.example,https://*.app.example"];
    let server = Server::start(&[&["--in-memory"], &sites[..]].concat());
    let status = |origin: &str| {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Origin: {origin}\r\n\r\n"
        );
        let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut head = [0; 12];
        std::io::Read::read_exact(&mut stream, &mut head).unwrap();
        String::from_utf8(head.to_vec()).unwrap()
    };
    assert_eq!(status("https://app.example"), "HTTP/1.1 101");
    assert_eq!(status("https://preview.app.example"), "HTTP/1.1 101");
    assert_eq!(status("https://evil.example"), "HTTP/1.1 403");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_connections_are_logged_once_a_minute_with_what_may_be_done() {
    let arguments = ["--in-memory", "--max-connections-per-address", "2"];
    let server =
        Server::start(&[&arguments[..], &["--allowed-origin", "https://a.example"]].concat());
    let kept = [connect(&server.url()).await.unwrap(), connect(&server.url()).await.unwrap()];
    for _ in 0..20 {
        assert!(refused(&server.url()).await.starts_with("429"));
    }
    server.logged("if it is the address of a proxy, name it with `--trusted-proxy`");
    drop(kept);
    let upgrade = |headers: &str| {
        let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             {headers}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (String::from_utf8(status.to_vec()).unwrap(), stream)
    };
    for _ in 0..20 {
        // The last connections may still be open.
        eventually("403", || upgrade("Origin: https://b.example").0 == "HTTP/1.1 403");
    }
    server.logged("pages of this site may not connect here");
    server.logged("from a page of https://b.example");
    // A proxy that the server does not know.
    let header = "X-Forwarded-For: 203.0.113.7";
    let mut kept = Vec::new();
    eventually("429", || {
        let (status, stream) = upgrade(header);
        kept.push(stream);
        status == "HTTP/1.1 429"
    });
    server.logged("which is that of a proxy: name it with `--trusted-proxy`");
    assert_eq!(server.log().matches("connections refused").count(), 3, "{}", server.log());
}
