//! Encryption, and certificates that are renewed while the server runs.

use std::path::Path;

use downbeat_transport::Connector;
use downbeat_transport::tls::ClientTls;
use downbeat_transport_ws::{WsConnector, WsOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::program::{Server, eventually, get, run, stderr, text};

/// Writes a certificate for 127.0.0.1, its key, and the authority that vouches for it.
fn write_certificate(dir: &Path, authority: &str) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(dir.join(authority), issuer.pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
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
    server.logged("the certificate has been read again");
    assert!(connects(&server, dir.path(), "new-ca.pem").await);
    assert!(!connects(&server, dir.path(), "old-ca.pem").await);

    std::fs::write(&cert, "not a certificate").unwrap();
    server.signal("HUP");
    server.logged("the certificate in use stays in use");
    assert!(connects(&server, dir.path(), "new-ca.pem").await);
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
    let server = start(0o600);
    assert!(!server.log().contains("private key"), "{}", server.log());
}
