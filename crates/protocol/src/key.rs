//! Public keys, signatures and hashes, and their texts in base58.

use std::fmt;
use std::str::FromStr;

use crate::invalid_id::InvalidId;
use crate::text::{InlineText, is_base58};

/// The length in bytes of the short hashes in CoValue ids (19 bytes of BLAKE3, as in the
/// reference).
pub const SHORT_HASH_LEN: usize = 19;

/// Defines a type of a fixed number of bytes, whose text is a prefix and base58 digits.
macro_rules! base58_bytes {
    ($(#[$doc:meta])* $type:ident, $len:expr, $prefix:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type([u8; $len]);

        impl $type {
            /// The value with these bytes.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            #[doc = concat!("Parses `", $prefix, "…`.")]
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let mut bytes = [0; $len];
                text.strip_prefix($prefix)
                    .and_then(|digits| bs58::decode(digits).onto(&mut bytes).ok())
                    .filter(|&len| len == $len)
                    .map(|_| Self(bytes))
                    .ok_or_else(|| InvalidId::new(text, $expected))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(&bs58::encode(&self.0).into_string())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $type {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }
    };
}

base58_bytes!(
    /// An Ed25519 public key, `signer_z…`.
    SignerId, 32, "signer_z", "a signer id (signer_z and 32 bytes in base58)"
);
base58_bytes!(
    /// An X25519 public key, `sealer_z…`.
    SealerId, 32, "sealer_z", "a sealer id (sealer_z and 32 bytes in base58)"
);
base58_bytes!(
    /// A BLAKE3 hash, `hash_z…`.
    LongHash, 32, "hash_z", "a hash (hash_z and 32 bytes in base58)"
);
base58_bytes!(
    /// The first 19 bytes of a BLAKE3 hash, `shortHash_z…`.
    ShortHash, SHORT_HASH_LEN, "shortHash_z", "a short hash (shortHash_z and 19 bytes in base58)"
);

const SIGNATURE_PREFIX: &str = "signature_z";

/// 64 bytes have at most 88 base58 digits.
const MAX_SIGNATURE_DIGITS: usize = 88;

/// An Ed25519 signature, `signature_z…`.
///
/// It is stored as its text, because a server forwards most signatures without verifying them, and
/// base58 is slow. [`Signature::to_bytes`] decodes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature(InlineText<{ SIGNATURE_PREFIX.len() + MAX_SIGNATURE_DIGITS }>);

impl Signature {
    /// Parses `signature_z…`. Only [`Self::to_bytes`] checks that the digits encode 64 bytes.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        text.strip_prefix(SIGNATURE_PREFIX)
            .filter(|digits| is_base58(digits))
            .and_then(|_| InlineText::new(text))
            .map(Self)
            .ok_or_else(|| InvalidId::new(text, "a signature (signature_z…)"))
    }

    pub(crate) fn from_digits(digits: &str) -> Result<Self, InvalidId> {
        Self::parse(&[SIGNATURE_PREFIX, digits].concat())
    }

    /// The digits after `signature_z`.
    pub(crate) fn digits(&self) -> &str {
        self.as_str().get(SIGNATURE_PREFIX.len()..).unwrap_or_default()
    }

    /// The signature with these bytes.
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        let text = format!("{SIGNATURE_PREFIX}{}", bs58::encode(bytes).into_string());
        Self(InlineText::new(&text).expect("64 bytes have at most 88 base58 digits"))
    }

    /// Decodes the 64 bytes. Fails if the digits encode another number of bytes.
    pub fn to_bytes(&self) -> Result<[u8; 64], InvalidId> {
        let mut bytes = [0; 64];
        let digits = &self.as_str()[SIGNATURE_PREFIX.len()..];
        match bs58::decode(digits).onto(&mut bytes) {
            Ok(64) => Ok(bytes),
            _ => Err(InvalidId::new(self.as_str(), "a signature of 64 bytes")),
        }
    }

    /// The text of the signature.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Signature {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_hashes_round_trip_through_their_text() {
        let signer = SignerId::from_bytes([7; 32]);
        assert_eq!(SignerId::parse(&signer.to_string()), Ok(signer));
        let leading_zeros = LongHash::from_bytes([0; 32]);
        assert_eq!(LongHash::parse(&leading_zeros.to_string()), Ok(leading_zeros));
    }

    #[test]
    fn a_key_of_the_wrong_length_or_prefix_is_refused() {
        let short = bs58::encode([7; 31]).into_string();
        let long = bs58::encode([7; 33]).into_string();
        for bad in
            [format!("signer_z{short}"), format!("signer_z{long}"), format!("sealer_z{short}")]
        {
            assert!(SignerId::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signature_is_decoded_on_demand() {
        let signature = Signature::from_bytes(&[3; 64]);
        assert_eq!(signature.to_bytes(), Ok([3; 64]));
        let truncated = Signature::parse("signature_z22").unwrap();
        assert!(truncated.to_bytes().is_err());
        assert!(Signature::parse("signature_z0").is_err());
        assert!(Signature::parse(&format!("signature_z{}", "2".repeat(89))).is_err());
    }
}
