//! Reads certificates and keys from PEM files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::tls::TlsError;

/// The largest file. System-wide bundles of authorities have about 250 KiB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Reads the certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(TlsError::NoCertificate { path: path.to_owned() })
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(not_pem(path, &error)),
    }
}

/// Reads the first private key of a file. Warns if users other than its owner can read it.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    #[cfg(unix)]
    warn_if_exposed(path);
    if is_encrypted(&bytes) {
        return Err(TlsError::EncryptedKey { path: path.to_owned() });
    }
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(PemError::NoItemsFound) => Err(TlsError::NoKey { path: path.to_owned() }),
        Err(error) => Err(not_pem(path, &error)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(TlsError::TooLarge { path: path.to_owned(), max: MAX_FILE_BYTES });
    }
    Ok(bytes)
}

#[cfg(unix)]
fn warn_if_exposed(path: &Path) {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = std::fs::metadata(path) else { return };
    if is_exposed(metadata.mode(), metadata.uid()) {
        tracing::warn!(
            path = %path.display(),
            "others than its owner can read the private key of the certificate: `chmod 600` it"
        );
    }
}

/// Whether users other than the intended ones can read a private key. A group may read a key that
/// root owns: services that do not run as root get their key this way.
#[cfg(unix)]
fn is_exposed(mode: u32, owner: u32) -> bool {
    const GROUP: u32 = 0o070;
    const GROUP_READS: u32 = 0o040;
    const OTHERS: u32 = 0o007;
    let allowed_to_group = if owner == 0 { GROUP_READS } else { 0 };
    mode & (OTHERS | GROUP) & !allowed_to_group != 0
}

/// PKCS #8 shows encryption in the label, older formats in a header.
fn is_encrypted(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.lines().any(|line| {
        line.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY")
            || (line.starts_with("Proc-Type:") && line.contains("ENCRYPTED"))
    })
}

fn not_pem(path: &Path, error: &PemError) -> TlsError {
    TlsError::NotPem { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_reads_a_key_and_a_group_one_of_root() {
        for (mode, owner, exposed) in [
            (0o100_600, 1000, false),
            (0o100_400, 1000, false),
            (0o100_640, 1000, true),
            (0o100_644, 1000, true),
            (0o100_640, 0, false),
            (0o100_660, 0, true),
            (0o100_644, 0, true),
        ] {
            assert_eq!(is_exposed(mode, owner), exposed, "{mode:o} of {owner}");
        }
    }
}
