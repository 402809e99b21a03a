//! The client's side: which servers are trusted.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::tls::{TlsError, files};

/// Which authorities vouch for the servers that we connect to: Mozilla's list as it was when the
/// program was built, and whichever are added.
///
/// The list is part of the program, so that it is the same on every system and there in the
/// smallest container; it does not hold what a system's administrator has added, which goes into a
/// file of its own.
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

    /// The same, and the authorities whose certificates are in this PEM file.
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

    /// What makes the TLS handshakes of one transport, which goes by these names (ALPN).
    pub fn connector(&self, protocols: &[&str]) -> Result<TlsConnector, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Setup(error.to_string()))?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(TlsConnector::from(Arc::new(config)))
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
