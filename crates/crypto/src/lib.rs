//! Hashes, identifiers from headers, hash chains and Ed25519 signatures of the Jazz sync protocol.
//!
//! A session is a log of transactions by one agent. Its [`HashChain`] grows with it, and the
//! agent signs the chain's head after what it adds. Whoever knows the agent's id can verify the
//! log from its transactions alone:
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
//! // A reader, who has the agent's id from the session's id or from the account's header.
//! let key = VerifyingKey::new(secret.agent().signer())?;
//! let mut received = HashChain::new();
//! received.append(br#"{"changes":"[]","madeAt":1700000000000,"privacy":"trusting"}"#);
//! key.verify_chain(&received, &signature)?;
//!
//! // Any other log does not carry this signature.
//! received.append(br#"{"changes":"[1]","madeAt":1700000000001,"privacy":"trusting"}"#);
//! assert!(key.verify_chain(&received, &signature).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`header_id`] gives a CoValue its id; [`sessions_hash`] stands for a known state in RECONCILE
//!   messages; [`hash`] and [`short_hash`] are the plain hashes of canonical JSON.
//! - [`VerifyingKey`] accepts and rejects exactly the signatures that the reference does.
//! - [`AgentSecret`], [`SignerSecret`] and [`SealerSecret`] are generated, parsed and exposed as
//!   text; they are overwritten when dropped, and `Debug` does not print them.
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
