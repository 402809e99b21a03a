//! TLS, and certificates that are renewed while the server runs.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

use downbeat_transport::Connector;
use downbeat_transport::tls::ClientTls;
use downbeat_transport_ws::{WsConnector, WsOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;

use crate::program::{Server, eventually, get, run, stderr, text};

/// Writes a certificate for 127.0.0.1, its key, and its certificate authority.
pub(crate) fn write_certificate(dir: &Path, authority: &str) {
    write_certificate_for(dir, authority, -30..365);
}

/// The same, valid from and until these days relative to now.
fn write_certificate_for(dir: &Path, authority: &str, days: Range<i64>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let in_days = |days: i64| {
        let seconds = since_epoch().as_secs().checked_add_signed(days * 86_400).unwrap();
        date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    (params.not_before, params.not_after) = (in_days(days.start), in_days(days.end));
    let certificate = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(dir.join(authority), issuer.pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

async fn connects(server: &Server, dir: &Path, authority: &str) -> bool {
    let client_tls = ClientTls::new().with_authorities(dir.join(authority)).unwrap();
    let options = WsOptions { client_tls, ..WsOptions::default() };
    WsConnector::new(&server.url(), options).unwrap().connect().await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_brings_in_a_renewed_certificate() {
    let dir = TempDir::new().unwrap();
    write_certificate(dir.path(), "old-ca.pem");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let arguments = ["--in-memory", "--tls-cert", text(&cert), "--tls-key", text(&key)];
    let server = Server::start(&arguments);
    assert!(server.url().starts_with("wss://"), "{}", server.url());
    assert!(connects(&server, dir.path(), "old-ca.pem").await);

    write_certificate(dir.path(), "new-ca.pem");
    server.signal("HUP");
    server.logged("reloaded the certificate");
    assert!(connects(&server, dir.path(), "new-ca.pem").await);
    assert!(!connects(&server, dir.path(), "old-ca.pem").await);

    std::fs::write(&cert, "not a certificate").unwrap();
    server.signal("HUP");
    server.logged("the old one stays in use");
    assert!(connects(&server, dir.path(), "new-ca.pem").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_comes_in_by_itself() {
    let dir = TempDir::new().unwrap();
    write_certificate(dir.path(), "old-ca.pem");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let arguments = ["--in-memory", "--tls-cert", text(&cert), "--tls-key", text(&key)];
    let server = Server::start(&arguments);
    write_certificate(dir.path(), "new-ca.pem");
    server.logged("reloaded the certificate");
    assert!(connects(&server, dir.path(), "new-ca.pem").await);

    std::fs::write(&cert, "not a certificate").unwrap();
    server.logged("the old one stays in use");
    assert!(connects(&server, dir.path(), "new-ca.pem").await);
}

#[test]
fn a_certificate_that_clients_refuse_is_warned_of_and_its_end_is_exported() {
    let dir = TempDir::new().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let tls = ["--tls-cert", text(&cert), "--tls-key", text(&key)];
    let arguments = [&["--in-memory", "--admin-port", "0"], &tls[..]].concat();
    write_certificate_for(dir.path(), "ca.pem", -90..-1);
    let server = Server::start(&arguments);
    server.logged("the certificate has expired");
    let expires_in = |days: f64| {
        let (_, _, metrics) = get(&server.admin(), "/metrics");
        let name = "downbeat_certificate_expiry_time_seconds ";
        let seconds: f64 =
            metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap();
        ((seconds - since_epoch().as_secs_f64()) / 86_400.0 - days).abs() < 0.1
    };
    assert!(expires_in(-1.0));
    write_certificate_for(dir.path(), "ca.pem", -80..10);
    server.logged("the certificate expires soon: renew it");
    eventually("the new end", || expires_in(10.0));
    write_certificate_for(dir.path(), "ca.pem", 1..90);
    server.logged("the certificate is not valid yet");

    write_certificate_for(dir.path(), "ca.pem", -1..90);
    let log = Server::start(&arguments).whole_log();
    assert!(!log.contains("expire") && !log.contains("not valid"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_whose_authority_is_our_own_can_be_trusted() {
    let dir = TempDir::new().unwrap();
    write_certificate(dir.path(), "ca.pem");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let arguments = ["--in-memory", "--tls-cert", text(&cert), "--tls-key", text(&key)];
    let upstream = Server::start(&arguments);
    let authority = dir.path().join("ca.pem");
    let url = upstream.url();
    let arguments = ["--in-memory", "--upstream", &url, "--upstream-ca", text(&authority)];
    let edge = Server::start(&[&arguments[..], &["--admin-port", "0"]].concat());
    let ready = || get(&edge.admin(), "/ready").2;
    eventually("the upstream", || ready() == "ready\n");
}

#[test]
fn a_certificate_that_is_not_there_is_named() {
    let arguments = ["--tls-cert", "no-cert.pem", "--tls-key", "no-key.pem"];
    let output = run(&[&["serve", "--in-memory", "--port", "0"], &arguments[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no-cert.pem cannot be read"), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn a_private_key_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    write_certificate(dir.path(), "ca.pem");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let start = |mode| {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        Server::start(&["--in-memory", "--tls-cert", text(&cert), "--tls-key", text(&key)])
    };
    start(0o644).logged("others than its owner can read the private key");
    let log = start(0o600).whole_log();
    assert!(!log.contains("private key"), "{log}");
}
