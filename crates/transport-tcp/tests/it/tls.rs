use std::path::PathBuf;

use downbeat_transport::tls::{ClientTls, ServerTls};
use downbeat_transport::{Connector, Listener, TransportError};
use downbeat_transport_tcp::{InvalidUrl, TcpConnector, TcpListener, TcpOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

/// An authority of our own, and its files.
pub(crate) struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    /// The authority's own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A server's certificate and key.
    pub(crate) fn server(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let paths = ["pem", "key"].map(|kind| self.dir.path().join(format!("{name}.{kind}")));
        std::fs::write(&paths[0], certificate.pem()).unwrap();
        std::fs::write(&paths[1], key.serialize_pem()).unwrap();
        paths.into()
    }
}

async fn listener(authority: &Authority) -> TcpListener {
    let (certificate, key) = authority.server("127.0.0.1");
    let tls = Some(ServerTls::from_files(certificate, key).unwrap());
    let options = TcpOptions { tls, ..TcpOptions::default() };
    TcpListener::bind("127.0.0.1:0", options).await.unwrap()
}

/// What a client gets that trusts this authority, or none of ours.
async fn connect(
    listener: &mut TcpListener,
    url: &str,
    trusted: Option<&Authority>,
) -> Result<(), TransportError> {
    let client_tls = match trusted {
        Some(authority) => ClientTls::new().with_authorities(authority.file()).unwrap(),
        None => ClientTls::new(),
    };
    let options = TcpOptions { client_tls, ..TcpOptions::default() };
    let connector = TcpConnector::new(url, options).unwrap();
    tokio::select! {
        connected = connector.connect() => connected.map(drop),
        accepted = listener.accept() => {
            accepted.unwrap();
            connector.connect().await.map(drop)
        }
    }
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_alone() {
    let (ours, other) = (Authority::new(), Authority::new());
    let mut listener = listener(&ours).await;
    let url = listener.url();
    assert!(url.starts_with("tcps://127.0.0.1:"), "{url}");
    for trusted in [Some(&other), None] {
        match connect(&mut listener, &url, trusted).await {
            Err(TransportError::Refused { reason }) => {
                assert!(reason.contains("certificate is not accepted"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    let options = TcpOptions {
        client_tls: ClientTls::new().with_authorities(ours.file()).unwrap(),
        ..TcpOptions::default()
    };
    let connector = TcpConnector::new(&url, options).unwrap();
    let (client, server) = tokio::join!(connector.connect(), listener.accept());
    client.unwrap();
    server.unwrap();
}

#[tokio::test]
async fn a_plain_client_and_an_encrypted_server_do_not_understand_each_other() {
    let authority = Authority::new();
    let mut listener = listener(&authority).await;
    let url = listener.url().replace("tcps://", "tcp://");
    let refused = connect(&mut listener, &url, None).await.unwrap_err();
    assert!(
        matches!(refused, TransportError::Protocol(_) | TransportError::Disconnected),
        "{refused:?}"
    );
}

#[test]
fn a_host_that_no_certificate_can_be_for_is_refused_at_once() {
    let invalid = TcpConnector::new("tcps://-no-name-:1", TcpOptions::default()).err();
    assert!(matches!(invalid, Some(InvalidUrl::Tls(_))), "{invalid:?}");
}
