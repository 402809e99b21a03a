//! Errors of certificates, keys and TLS handshakes.

use std::io;
use std::path::PathBuf;

#[cfg(feature = "net")]
use crate::error::TransportError;

/// Why TLS cannot be set up. The text names the file and says how to correct it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file that is larger than any certificate or key.
    #[error("{} is larger than {max} bytes, so it is not a certificate or key", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        max: u64,
    },
    /// A file that is not PEM, or that has a broken part.
    #[error("{} is not a sound PEM file: {reason}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A file without a certificate.
    #[error("{} holds no certificate (a part that starts with -----BEGIN CERTIFICATE-----)", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file without a private key.
    #[error("{} holds no private key (a part that starts with -----BEGIN PRIVATE KEY-----)", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A private key that needs a password.
    #[error(
        "the private key in {} is encrypted; write it without a password, readable only for the \
         server: openssl pkey -in {} -out server.key",
        path.display(), path.display()
    )]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// A private key of a kind that is not supported.
    #[error("the private key in {} cannot be used: {reason}", path.display())]
    UnusableKey {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A certificate that cannot be used.
    #[error("the certificate in {} cannot be used: {reason}", path.display())]
    UnusableCertificate {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A certificate and a key that do not belong together.
    #[error(
        "the private key in {} is not that of the first certificate in {} (the server's own \
         certificate comes first, those of its issuers after it)",
        key.display(), certificates.display()
    )]
    Mismatch {
        /// The file with the certificates.
        certificates: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// A host name that no certificate can have.
    #[error("no certificate can be valid for the host {host:?}")]
    InvalidHost {
        /// The name.
        host: String,
    },
    /// Settings that the TLS library refuses.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// The error of a client whose TLS handshake failed. A server with a certificate that is not
/// trusted counts as a server that refuses.
#[cfg(feature = "net")]
pub(super) fn transport_error(error: io::Error) -> TransportError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => {
            let reason = match tls {
                rustls::Error::InvalidCertificate(reason) => {
                    format!("the server's certificate is not accepted: {reason}")
                }
                other => format!("no TLS: {other}"),
            };
            TransportError::Refused { reason }
        }
        None => error.into(),
    }
}
