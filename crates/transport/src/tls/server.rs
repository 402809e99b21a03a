//! The server's side: a certificate that can be replaced while the server runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
#[cfg(feature = "net")]
use {rustls::ServerConfig, tokio_rustls::TlsAcceptor};

use crate::tls::{TlsError, Validity, files};

/// A listener's certificate and key, from files. Clones share them, and a reload changes all
/// clones.
///
/// ```no_run
/// use downbeat_transport::tls::ServerTls;
///
/// let tls = ServerTls::from_files("server.pem", "server.key")?;
/// let reloader = tls.reloader();
/// // ... the listener takes `tls`; later, when the files have been renewed:
/// reloader.reload()?;
/// # Ok::<(), downbeat_transport::tls::TlsError>(())
/// ```
#[derive(Clone)]
pub struct ServerTls {
    files: Arc<Files>,
}

/// Reads the files of a [`ServerTls`] again.
#[derive(Debug, Clone)]
pub struct TlsReloader {
    files: Arc<Files>,
}

struct Files {
    certificates: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl ServerTls {
    /// Reads the certificate chain (the server's certificate first, then its issuers) and the
    /// private key. Both are PEM, and may be the same file.
    pub fn from_files(
        certificates: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let (certificates, key) = (certificates.into(), key.into());
        let current = RwLock::new(Arc::new(load(&certificates, &key)?));
        Ok(Self { files: Arc::new(Files { certificates, key, current }) })
    }

    /// The handle that reads the files again.
    pub fn reloader(&self) -> TlsReloader {
        TlsReloader { files: Arc::clone(&self.files) }
    }

    /// Accepts TLS handshakes with these protocol names (ALPN). TLS refuses clients that offer only
    /// other names.
    #[cfg(feature = "net")]
    pub(crate) fn acceptor(&self, protocols: &[&str]) -> Result<TlsAcceptor, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Files>::clone(&self.files);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Setup(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl TlsReloader {
    /// Reads both files again. New connections get the new certificate. On an error the certificate
    /// in use stays in use.
    ///
    /// Blocks on file reads, so call it outside of async tasks.
    pub fn reload(&self) -> Result<(), TlsError> {
        let new = Arc::new(load(&self.files.certificates, &self.files.key)?);
        // No code panics while it holds the lock.
        *self.files.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// The validity period of the certificate in use; `None` if it has none.
    pub fn validity(&self) -> Option<Validity> {
        let current =
            Arc::clone(&self.files.current.read().unwrap_or_else(PoisonError::into_inner));
        current.cert.first().and_then(Validity::of)
    }

    /// The certificate file.
    pub fn certificates(&self) -> &Path {
        &self.files.certificates
    }

    /// The key file.
    pub fn key(&self) -> &Path {
        &self.files.key
    }
}

fn load(certificates: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = files::certificates(certificates)?;
    let signing_key = ring::sign::any_supported_type(&files::key(key)?).map_err(|error| {
        TlsError::UnusableKey { path: key.to_owned(), reason: error.to_string() }
    })?;
    let certified = CertifiedKey::new(chain, signing_key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::Mismatch { certificates: certificates.to_owned(), key: key.to_owned() })
        }
        Err(error) => Err(TlsError::UnusableCertificate {
            path: certificates.to_owned(),
            reason: error.to_string(),
        }),
    }
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("certificates", &self.certificates)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish()
    }
}
