//! The validity period of a certificate.

use std::time::{Duration, SystemTime};

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

/// The period in which clients accept a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Its first second.
    pub not_before: SystemTime,
    /// Its last second.
    pub not_after: SystemTime,
}

impl Validity {
    /// `None` if the certificate is not readable.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = ParsedCertificate::try_from(certificate).ok()?;
        // rustls has no accessor for the dates, but puts them into the error for a wrong time,
        // which it checks before the authority.
        let error_at = |now| {
            let algorithms = ring::default_provider().signature_verification_algorithms.all;
            let roots = RootCertStore::empty();
            verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], now, algorithms).err()
        };
        let first = UnixTime::since_unix_epoch(Duration::ZERO);
        let last = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
        let Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) =
            error_at(first)?
        else {
            return None;
        };
        let Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) =
            error_at(last)?
        else {
            return None;
        };
        Some(Self { not_before: system_time(not_before)?, not_after: system_time(not_after)? })
    }
}

fn system_time(time: UnixTime) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    /// Days since 1970.
    fn day(time: SystemTime) -> u64 {
        time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 86_400
    }

    #[test]
    fn the_dates_are_those_in_the_certificate() {
        for is_authority in [false, true] {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2051, 1, 1);
            if is_authority {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let validity = Validity::of(certificate.der()).unwrap();
            assert_eq!((day(validity.not_before), day(validity.not_after)), (10_957, 29_585));
        }
        assert_eq!(Validity::of(&CertificateDer::from(vec![0x30, 0])), None);
    }
}
