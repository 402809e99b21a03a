//! Ed25519 verification of hash chains.

use std::fmt;

use downbeat_protocol::{InvalidId, LongHash, Signature, SignerId};
use ed25519_dalek::Verifier;

use crate::base58;
use crate::hash::HashChain;
use crate::message::SignedMessage;

/// A signer id does not encode a point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an Ed25519 public key")]
pub struct InvalidKey(
    /// The invalid signer id.
    pub SignerId,
);

/// Why a signature is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The signature's text does not encode 64 bytes.
    #[error(transparent)]
    MalformedSignature(#[from] InvalidId),
    /// The signer's id is not a public key.
    #[error(transparent)]
    InvalidKey(#[from] InvalidKey),
    /// The signature was not made by this signer for this hash.
    #[error("the signature was not made by {signer} for {hash}")]
    WrongSignature {
        /// The expected signer.
        signer: SignerId,
        /// The expected hash.
        hash: LongHash,
    },
}

/// A signer's public key, decompressed for verification.
///
/// Decompression takes a noticeable part of a verification, so reuse the value for all logs of a
/// signer.
///
/// # Strictness
///
/// Verification accepts exactly the signatures that the reference accepts. A signature that only
/// one side accepts would split the network permanently. The rules: the equation without cofactor,
/// compared on the bytes of R; a scalar S that is not reduced is refused; keys and R of small
/// order, and keys whose y coordinate is not reduced, are accepted. A key of small order harms only
/// its owner, because the signer follows from the account or session.
///
/// There is no batch verification, because the usual batch equation accepts or refuses signatures
/// with small-order parts depending on the other signatures in the batch.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Decompresses the key of a signer id.
    pub fn new(signer: SignerId) -> Result<Self, InvalidKey> {
        ed25519_dalek::VerifyingKey::from_bytes(signer.as_bytes())
            .map(Self)
            .map_err(|_| InvalidKey(signer))
    }

    /// Verifies the signature of a whole log up to the current end of its chain.
    pub fn verify_chain(
        &self,
        chain: &HashChain,
        signature: &Signature,
    ) -> Result<(), VerifyError> {
        self.verify(&chain.head(), signature)
    }

    /// Verifies the signature of a hash: Ed25519 over the UTF-8 bytes of the JSON string
    /// `"hash_z…"`, with its quotes.
    pub fn verify(&self, hash: &LongHash, signature: &Signature) -> Result<(), VerifyError> {
        let signature = ed25519_dalek::Signature::from_bytes(&bytes(signature)?);
        self.0
            .verify(SignedMessage::new(hash).as_bytes(), &signature)
            .map_err(|_| VerifyError::WrongSignature { signer: self.signer(), hash: *hash })
    }

    /// The signer id of this key.
    pub fn signer(&self) -> SignerId {
        SignerId::from_bytes(self.0.to_bytes())
    }
}

/// The bytes of a signature, like [`Signature::to_bytes`] but faster.
fn bytes(signature: &Signature) -> Result<[u8; 64], InvalidId> {
    const PREFIX: &str = "signature_z";
    let digits = signature.as_str().strip_prefix(PREFIX);
    digits.and_then(base58::decode_64).map_or_else(|| signature.to_bytes(), Ok)
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VerifyingKey").field(&self.signer()).finish()
    }
}
