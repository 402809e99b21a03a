use std::path::{Path, PathBuf};
use std::sync::Arc;

use downbeat_transport::tls::{ClientTls, ServerTls, TlsError};
use downbeat_transport::{Connection, Connector, Listener, TransportError, conformance};
use downbeat_transport_ws::{WsConnector, WsListener, WsOptions};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// An authority of our own, and a folder for files.
struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and key of a server.
struct Server {
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of our own");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    fn trusted(&self) -> ClientTls {
        ClientTls::new().with_authorities(self.dir.path().join("ca.pem")).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn server(&self, name: &str) -> Server {
        self.server_with(&CertificateParams::new([name.to_owned()]).unwrap())
    }

    /// Writes a new certificate and key to the same files.
    fn server_with(&self, params: &CertificateParams) -> Server {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let server = Server { certificate: self.file("server.pem"), key: self.file("server.key") };
        std::fs::write(&server.certificate, certificate.pem()).unwrap();
        std::fs::write(&server.key, key.serialize_pem()).unwrap();
        server
    }
}

impl Server {
    fn tls(&self) -> Result<ServerTls, TlsError> {
        ServerTls::from_files(&self.certificate, &self.key)
    }
}

async fn listen(tls: ServerTls) -> (WsListener, WsOptions) {
    let options = WsOptions { tls: Some(tls), ..WsOptions::default() };
    (WsListener::bind("127.0.0.1:0", options.clone()).await.unwrap(), options)
}

/// Both ends of a connection to `wss://HOST:PORT`, or why the client got none.
async fn connect(
    listener: &mut WsListener,
    host: &str,
    trusted: ClientTls,
) -> Result<(Connection, Connection), TransportError> {
    let url = format!("wss://{host}:{}/", listener.local_address().port());
    let options = WsOptions { client_tls: trusted, ..WsOptions::default() };
    let connector = WsConnector::new(&url, options).unwrap();
    let mut connecting = Box::pin(connector.connect());
    tokio::select! {
        client = &mut connecting => {
            let client = client?;
            Ok((client, listener.accept().await.unwrap()))
        }
        server = listener.accept() => Ok((connecting.await?, server.unwrap())),
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, TransportError>) -> String {
    match result {
        Err(TransportError::Refused { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_with_tls_conform() {
    let authority = Authority::new();
    let (listener, _) = listen(authority.server("localhost").tls().unwrap()).await;
    let listener = Arc::new(tokio::sync::Mutex::new(listener));
    conformance::run(|| async {
        let mut listener = listener.lock().await;
        connect(&mut listener, "localhost", authority.trusted()).await.unwrap()
    })
    .await;
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_alone() {
    let (ours, other) = (Authority::new(), Authority::new());
    let (mut listener, options) = listen(ours.server("localhost").tls().unwrap()).await;
    assert!(listener.url().starts_with("wss://127.0.0.1:"), "{}", listener.url());
    for trusted in [other.trusted(), ClientTls::new()] {
        let reason = refusal(connect(&mut listener, "localhost", trusted).await);
        assert!(reason.contains("certificate is not accepted"), "{reason}");
    }
    let (client, server) = connect(&mut listener, "localhost", ours.trusted()).await.unwrap();
    assert!(client.info.address.starts_with("wss://localhost:"), "{}", client.info.address);
    assert!(server.info.address.starts_with("127.0.0.1:"), "{}", server.info.address);
    assert_eq!(options.counters.snapshot().tls_failed, 2);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let (mut listener, _) = listen(authority.server("sync.example").tls().unwrap()).await;
    let reason = refusal(connect(&mut listener, "localhost", authority.trusted()).await);
    assert!(
        reason.contains("not valid for name") || reason.contains("NotValidForName"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_refused() {
    let authority = Authority::new();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let (mut listener, _) = listen(authority.server_with(&params).tls().unwrap()).await;
    let reason = refusal(connect(&mut listener, "localhost", authority.trusted()).await);
    assert!(reason.to_lowercase().contains("expired"), "{reason}");
}

#[tokio::test]
async fn a_renewed_certificate_is_used_for_new_connections_and_a_broken_one_is_not() {
    let (first, second) = (Authority::new(), Authority::new());
    let server = first.server("localhost");
    let tls = server.tls().unwrap();
    let reloader = tls.reloader();
    let (mut listener, _) = listen(tls).await;
    let (mut old, mut old_server) =
        connect(&mut listener, "localhost", first.trusted()).await.unwrap();

    // A bad file changes nothing and is named.
    std::fs::write(&server.certificate, "not a certificate").unwrap();
    let error = reloader.reload().unwrap_err();
    assert!(error.to_string().contains("server.pem holds no certificate"), "{error}");
    connect(&mut listener, "localhost", first.trusted()).await.unwrap();

    // A certificate whose key was not replaced as well.
    let renewed = second.server("localhost");
    std::fs::copy(&renewed.certificate, &server.certificate).unwrap();
    assert!(matches!(reloader.reload(), Err(TlsError::Mismatch { .. })));
    connect(&mut listener, "localhost", first.trusted()).await.unwrap();

    std::fs::copy(&renewed.key, &server.key).unwrap();
    reloader.reload().unwrap();
    connect(&mut listener, "localhost", second.trusted()).await.unwrap();
    refusal(connect(&mut listener, "localhost", first.trusted()).await);

    // Connections from before go on.
    old.sender.send(&[downbeat_protocol::Message::ReconcileAck("x".into())]).await.unwrap();
    assert!(old_server.receiver.receive().await.unwrap().is_some());
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name() {
    let authority = Authority::new();
    let server = authority.server("localhost");
    let key = std::fs::read_to_string(&server.key).unwrap();
    let certificate = std::fs::read_to_string(&server.certificate).unwrap();
    let missing = authority.file("missing.pem");
    let write = |name: &str, text: &str| {
        let path = authority.file(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0\n\nMIIB\n-----END RSA PRIVATE KEY-----\n";
    let cut = certificate.get(..certificate.len() / 2).unwrap();
    let other = KeyPair::generate().unwrap().serialize_pem();
    let hollow = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";
    let false_certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    for (certificate, key, said) in [
        (&missing, &server.key, "missing.pem cannot be read"),
        (&server.certificate, &missing, "missing.pem cannot be read"),
        (&server.key, &server.key, "server.key holds no certificate"),
        (&server.certificate, &server.certificate, "server.pem holds no private key"),
        (&server.certificate, &write("enc.key", encrypted), "enc.key is encrypted"),
        (&server.certificate, &write("old.key", old), "old.key is encrypted"),
        (&write("cut.pem", cut), &server.key, "cut.pem is not a sound PEM file"),
        (&server.certificate, &write("other.key", &other), "other.key is not that of the first"),
        (&server.certificate, &write("hollow.key", hollow), "hollow.key cannot be used"),
        (&write("false.pem", false_certificate), &server.key, "false.pem cannot be used"),
    ] {
        let error = ServerTls::from_files(certificate, key).unwrap_err().to_string();
        assert!(error.contains(said), "{said:?}: {error}");
        assert!(!error.contains("MIIB"), "{error}");
    }
    let error = ClientTls::new().with_authorities(&server.key).unwrap_err().to_string();
    assert!(error.contains("server.key holds no certificate"), "{error}");
    let huge = write("huge.pem", &"x".repeat(5 << 20));
    let error = ClientTls::new().with_authorities(huge).unwrap_err().to_string();
    assert!(error.contains("huge.pem is larger than"), "{error}");
    // Both in one file.
    let both = write("both.pem", &format!("{certificate}{key}"));
    ServerTls::from_files(&both, &both).unwrap();
    assert!(Path::new(&both).exists());
}

#[tokio::test]
async fn who_speaks_no_tls_is_counted_and_holds_up_nobody() {
    let authority = Authority::new();
    let (mut listener, options) = listen(authority.server("localhost").tls().unwrap()).await;
    let address = listener.local_address();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    // A hello that is cut off in its middle.
    idle.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    connect(&mut listener, "localhost", authority.trusted()).await.unwrap();
    let seen = options.counters.snapshot();
    assert_eq!((seen.tls_failed, seen.accepted), (1, 1));
}
