//! The secret keys of agents: one signs, the other opens sealed messages.

use std::fmt;

use downbeat_protocol::{AgentId, LongHash, RandomnessError, SealerId, Signature, SignerId};
use ed25519_dalek::Signer;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use crate::hash::HashChain;
use crate::message::SignedMessage;
use crate::random::random_bytes;

const SIGNER_PREFIX: &str = "signerSecret_z";
const SEALER_PREFIX: &str = "sealerSecret_z";

/// 32 bytes have at most 44 base58 digits.
const MAX_DIGITS: usize = 44;

/// A text is not a valid secret. The error does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {expected}")]
pub struct InvalidSecret {
    /// A description of the expected secret.
    pub expected: &'static str,
}

/// An Ed25519 secret key, `signerSecret_z…`: 32 bytes in base58. Overwritten when dropped.
#[derive(Clone)]
pub struct SignerSecret(ed25519_dalek::SigningKey);

impl SignerSecret {
    /// A new secret from random bytes of the operating system.
    pub fn generate() -> Result<Self, RandomnessError> {
        random_bytes().map(|bytes| Self::from_bytes(&bytes))
    }

    /// The secret with these 32 bytes, which must be random if secrecy matters.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(bytes))
    }

    /// Parses `signerSecret_z…`.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        parse_key(text, SIGNER_PREFIX)
            .map(|bytes| Self::from_bytes(&bytes))
            .ok_or(InvalidSecret { expected: "a signer secret (signerSecret_z…)" })
    }

    /// The secret's text, `signerSecret_z…`, overwritten when dropped.
    pub fn expose_text(&self) -> Zeroizing<String> {
        key_text(SIGNER_PREFIX, self.0.as_bytes())
    }

    /// The id that verifies the secret's signatures.
    pub fn signer(&self) -> SignerId {
        SignerId::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// Signs a log up to the current end of its chain.
    pub fn sign_chain(&self, chain: &HashChain) -> Signature {
        self.sign(&chain.head())
    }

    /// Signs a hash; see [`VerifyingKey::verify`](crate::VerifyingKey::verify) for the message.
    pub fn sign(&self, hash: &LongHash) -> Signature {
        Signature::from_bytes(&self.0.sign(SignedMessage::new(hash).as_bytes()).to_bytes())
    }
}

/// An X25519 secret key, `sealerSecret_z…`: 32 bytes in base58. Overwritten when dropped.
#[derive(Clone)]
pub struct SealerSecret(StaticSecret);

impl SealerSecret {
    /// A new secret from random bytes of the operating system.
    pub fn generate() -> Result<Self, RandomnessError> {
        random_bytes().map(|bytes| Self::from_bytes(&bytes))
    }

    /// The secret with these 32 bytes, which must be random if secrecy matters.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(StaticSecret::from(*bytes))
    }

    /// Parses `sealerSecret_z…`.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        parse_key(text, SEALER_PREFIX)
            .map(|bytes| Self::from_bytes(&bytes))
            .ok_or(InvalidSecret { expected: "a sealer secret (sealerSecret_z…)" })
    }

    /// The secret's text, `sealerSecret_z…`, overwritten when dropped.
    pub fn expose_text(&self) -> Zeroizing<String> {
        key_text(SEALER_PREFIX, self.0.as_bytes())
    }

    /// The id that others use to seal messages for this secret.
    pub fn sealer(&self) -> SealerId {
        SealerId::from_bytes(PublicKey::from(&self.0).to_bytes())
    }
}

/// The secrets of an agent, `sealerSecret_z…/signerSecret_z…`. Overwritten when dropped.
///
/// ```
/// use downbeat_crypto::AgentSecret;
///
/// let secret = AgentSecret::generate()?;
/// let again = AgentSecret::parse(&secret.expose_text())?;
/// assert_eq!(again.agent(), secret.agent());
/// assert_eq!(format!("{secret:?}"), "AgentSecret(..)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct AgentSecret {
    sealer: SealerSecret,
    signer: SignerSecret,
}

impl AgentSecret {
    /// Parses `sealerSecret_z…/signerSecret_z…`.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        text.split_once('/')
            .and_then(|(sealer, signer)| {
                Some(Self::new(
                    SealerSecret::parse(sealer).ok()?,
                    SignerSecret::parse(signer).ok()?,
                ))
            })
            .ok_or(InvalidSecret {
                expected: "an agent secret (sealerSecret_z…/signerSecret_z…)"
            })
    }

    /// The agent with these two secrets.
    pub fn new(sealer: SealerSecret, signer: SignerSecret) -> Self {
        Self { sealer, signer }
    }

    /// A new agent from random bytes of the operating system.
    pub fn generate() -> Result<Self, RandomnessError> {
        Ok(Self::new(SealerSecret::generate()?, SignerSecret::generate()?))
    }

    /// The agent of a secret seed, as in the reference: the two secrets are the BLAKE3 hashes of
    /// `seal` and `sign`, each followed by the seed.
    ///
    /// Applications show the seed to their users as a passphrase. The same seed always gives the
    /// same agent.
    pub fn from_secret_seed(seed: &[u8; 32]) -> Self {
        Self::new(
            SealerSecret::from_bytes(&hash_in_context(b"seal", seed)),
            SignerSecret::from_bytes(&hash_in_context(b"sign", seed)),
        )
    }

    /// The agent's id: its two public keys.
    pub fn agent(&self) -> AgentId {
        AgentId::new(self.sealer.sealer(), self.signer.signer())
    }

    /// The secret that signs for this agent.
    pub fn signer_secret(&self) -> &SignerSecret {
        &self.signer
    }

    /// The secret that opens messages sealed for this agent.
    pub fn sealer_secret(&self) -> &SealerSecret {
        &self.sealer
    }

    /// The secret's text, `sealerSecret_z…/signerSecret_z…`, overwritten when dropped.
    pub fn expose_text(&self) -> Zeroizing<String> {
        let (sealer, signer) = (self.sealer.expose_text(), self.signer.expose_text());
        // The exact capacity: a reallocation would leave a copy of the secret in memory.
        let mut text = Zeroizing::new(String::with_capacity(sealer.len() + 1 + signer.len()));
        text.push_str(&sealer);
        text.push('/');
        text.push_str(&signer);
        text
    }
}

/// Implements `Debug` without the secret.
macro_rules! opaque_debug {
    ($($type:ident),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($type), "(..)"))
            }
        }
    )*};
}
opaque_debug!(SignerSecret, SealerSecret, AgentSecret);

fn hash_in_context(context: &[u8], seed: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(context).update(seed);
    let hash = Zeroizing::new(*hasher.finalize().as_bytes());
    hasher.zeroize();
    hash
}

fn parse_key(text: &str, prefix: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    let digits = text.strip_prefix(prefix)?;
    let len = bs58::decode(digits).onto(bytes.as_mut_slice()).ok()?;
    (len == bytes.len()).then_some(bytes)
}

fn key_text(prefix: &str, key: &[u8; 32]) -> Zeroizing<String> {
    let mut digits = Zeroizing::new([0; MAX_DIGITS]);
    let len = bs58::encode(key)
        .onto(digits.as_mut_slice())
        .expect("32 bytes have at most 44 base58 digits");
    let digits = str::from_utf8(&digits[..len]).expect("base58 digits are ASCII");
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + digits.len()));
    text.push_str(prefix);
    text.push_str(digits);
    text
}
