//! What can be wrong with certificates and keys.

use std::io;
use std::path::PathBuf;

use crate::error::TransportError;

/// Why encryption cannot be set up. Says which file it is, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is larger than any certificate or key.
    #[error("{} is larger than {max} bytes; that is no certificate or key", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// What is accepted, in bytes.
        max: u64,
    },
    /// A file is no PEM, or a part of it is broken.
    #[error("{} is not a sound PEM file: {reason}", path.display())]
    NotPem {
        /// Which file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A file without a certificate.
    #[error("{} holds no certificate (a part that starts with -----BEGIN CERTIFICATE-----)", path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// A file without a private key.
    #[error("{} holds no private key (a part that starts with -----BEGIN PRIVATE KEY-----)", path.display())]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// A private key that needs a password.
    #[error(
        "the private key in {} is encrypted; write it without a password, readable for the server \
         alone: openssl pkey -in {} -out server.key",
        path.display(), path.display()
    )]
    EncryptedKey {
        /// Which file.
        path: PathBuf,
    },
    /// A private key of a kind that is not supported.
    #[error("the private key in {} cannot be used: {reason}", path.display())]
    UnusableKey {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A certificate that cannot be used.
    #[error("the certificate in {} cannot be used: {reason}", path.display())]
    UnusableCertificate {
        /// Which file.
        path: PathBuf,
        /// Why not.
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
    /// The library refused the settings.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// What an error of a TLS handshake means to whoever wanted to connect: a server that cannot prove
/// who it is counts as one that is not there.
pub fn tls_error(error: io::Error) -> TransportError {
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
