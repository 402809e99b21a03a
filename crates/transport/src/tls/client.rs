//! The client's side: trusted authorities, and the TLS handshake with one host.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
#[cfg(feature = "net")]
use {
    crate::error::TransportError,
    crate::tls::error::transport_error,
    rustls::ClientConfig,
    rustls::crypto::ring,
    rustls::pki_types::ServerName,
    tokio::io::{AsyncRead, AsyncWrite},
    tokio_rustls::TlsConnector,
    tokio_rustls::client::TlsStream,
};

use crate::tls::{TlsError, files};

/// The authorities that a client trusts: Mozilla's list at the time of the build, and those of
/// further files.
///
/// The list is part of the program: it is the same on every system, the smallest container
/// included. It does not contain authorities that an administrator has added to the system; put
/// those into a file for [`with_authorities`](Self::with_authorities).
#[derive(Clone)]
pub struct ClientTls {
    roots: Arc<RootCertStore>,
}

impl ClientTls {
    /// The built-in authorities.
    pub fn new() -> Self {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        Self { roots: Arc::new(roots) }
    }

    /// Trusts the authorities in this PEM file too.
    pub fn with_authorities(self, path: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let path = path.into();
        let mut roots = Arc::unwrap_or_clone(self.roots);
        for certificate in files::certificates(&path)? {
            roots.add(certificate).map_err(|error| TlsError::UnusableCertificate {
                path: path.clone(),
                reason: error.to_string(),
            })?;
        }
        Ok(Self { roots: Arc::new(roots) })
    }

    /// The settings for one host, with these protocol names (ALPN).
    #[cfg(feature = "net")]
    pub(crate) fn for_host(&self, host: &str, protocols: &[&str]) -> Result<HostTls, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Setup(error.to_string()))?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let host = ServerName::try_from(host.to_owned())
            .map_err(|_| TlsError::InvalidHost { host: host.to_owned() })?;
        Ok(HostTls { connector: TlsConnector::from(Arc::new(config)), host })
    }
}

/// A client's TLS settings for one host.
#[cfg(feature = "net")]
pub(crate) struct HostTls {
    connector: TlsConnector,
    host: ServerName<'static>,
}

#[cfg(feature = "net")]
impl HostTls {
    /// Runs the TLS handshake.
    pub(crate) async fn connect<S>(&self, stream: S) -> Result<TlsStream<S>, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.connector.connect(self.host.clone(), stream).await.map_err(transport_error)
    }
}

impl Default for ClientTls {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("authorities", &self.roots.len()).finish()
    }
}
