//! Hashes, identifiers from headers, hash chains and Ed25519 signatures of the Jazz sync protocol.
//!
//! A session is a log of one agent's transactions. A [`HashChain`] grows with it, and the agent
//! signs the chain's head after each addition. A peer with the agent's id can verify the log from
//! its transactions:
//!
//! ```
//! use downbeat_crypto::{AgentSecret, HashChain, VerifyingKey};
//!
//! // The writer.
//! let secret = AgentSecret::generate()?;
//! let mut log = HashChain::new();
//! log.append(br#"{"changes":"[]","madeAt":1700000000000,"privacy":"trusting"}"#);
//! let signature = secret.signer_secret().sign_chain(&log);
//!
//! // A reader, who takes the agent's id from the session's id or from the account's header.
//! let key = VerifyingKey::new(secret.agent().signer())?;
//! let mut received = HashChain::new();
//! received.append(br#"{"changes":"[]","madeAt":1700000000000,"privacy":"trusting"}"#);
//! key.verify_chain(&received, &signature)?;
//!
//! // The signature is not valid for any other log.
//! received.append(br#"{"changes":"[1]","madeAt":1700000000001,"privacy":"trusting"}"#);
//! assert!(key.verify_chain(&received, &signature).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`header_id`] computes the id of a CoValue; [`sessions_hash`] represents a known state in
//!   RECONCILE messages; [`hash`] and [`short_hash`] hash canonical JSON.
//! - [`VerifyingKey`] accepts and rejects exactly the signatures that the reference does.
//! - [`AgentSecret`], [`SignerSecret`] and [`SealerSecret`] are secret keys. Dropping them
//!   overwrites their memory, and `Debug` does not print them.
//! - [`session_id`] and [`delete_session_id`] turn given bytes into session ids, for runs that can
//!   be repeated; [`random_session_id`] takes random ones.

mod base58;
mod hash;
mod message;
mod random;
mod secret;
mod verify;

pub use downbeat_protocol::RandomnessError;
pub use hash::{HashChain, hash, header_id, sessions_hash, short_hash};
pub use random::{delete_session_id, random_session_id, session_id};
pub use secret::{AgentSecret, InvalidSecret, SealerSecret, SignerSecret};
pub use verify::{InvalidKey, VerifyError, VerifyingKey};
pub use zeroize::Zeroizing;
