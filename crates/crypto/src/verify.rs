//! Ed25519 verification of hash chains.

use std::fmt;

use downbeat_protocol::{InvalidId, LongHash, Signature, SignerId};
use ed25519_dalek::Verifier;

use crate::base58;
use crate::hash::HashChain;
use crate::message::SignedMessage;

/// A signer's public key that is not the encoding of a curve point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an Ed25519 public key")]
pub struct InvalidKey(
    /// The id that was to be a key.
    pub SignerId,
);

/// Why a signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The signature's text does not stand for 64 bytes.
    #[error(transparent)]
    MalformedSignature(#[from] InvalidId),
    /// The signer's id is not a public key.
    #[error(transparent)]
    InvalidKey(#[from] InvalidKey),
    /// The signature is not the signer's for this hash.
    #[error("the signature is not one of {signer} for {hash}")]
    WrongSignature {
        /// Whose signature it should be.
        signer: SignerId,
        /// The hash that it should cover.
        hash: LongHash,
    },
}

/// A signer's public key, decompressed, ready for verification.
///
/// Decompression costs a noticeable part of a verification, so keep the value where several logs
/// of one signer are verified.
///
/// # Strictness
///
/// What the reference accepts and rejects is matched exactly, because a signature that one side
/// takes and the other refuses would split the network for good: the equation without cofactor,
/// compared on the bytes of R; a scalar S that is not reduced is refused; keys and R of small
/// order, and keys whose y coordinate is not reduced, are accepted. Small-order keys hurt nobody
/// but their owner here: a signer is always named by the account or session that is written to.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Decompresses the key that a signer id stands for.
    pub fn new(signer: SignerId) -> Result<Self, InvalidKey> {
        ed25519_dalek::VerifyingKey::from_bytes(signer.as_bytes())
            .map(Self)
            .map_err(|_| InvalidKey(signer))
    }

    /// Verifies the signature of a whole log up to the chain's present end.
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

/// The bytes of a signature. [`Signature::to_bytes`] says the same, and takes longer.
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
