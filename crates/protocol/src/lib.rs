//! Messages, identifiers, headers and transactions of the Jazz sync protocol, and the codecs that
//! turn frames of bytes into them and back.
//!
//! Jazz applications keep their data in CoValues: a *header* that says what a CoValue is and who
//! may write it, and append-only logs of *transactions*, one for each *session* of a writer. Peers
//! bring each other up to date with six kinds of [`Message`]. This crate has all of these as types
//! that are valid once they exist, knows nothing of sockets, storage or cryptography, and never
//! panics on what it reads.
//!
//! ```
//! use bytes::Bytes;
//! use downbeat_protocol::{BinaryCodec, Codec, JsonCodec, Message, Privacy};
//!
//! // A frame from a client: a message on each line. This one brings a new transaction.
//! let frame = Bytes::from_static(
//!     br#"{"action":"content","id":"co_z3KtTqHpdiLVqUedLN8UzsfaYrx","priority":3,"new":{"co_z4ht58AuLQgjaGmagVHAARGVRWk_session_zRWdnriVjeWM":{"after":2,"newTransactions":[{"encryptedChanges":"encrypted_UbL0QNOB4BENVd7uj","keyUsed":"key_zmhRoC5awrAhP4Qqz","madeAt":1795333719292,"privacy":"private"}],"lastSignature":"signature_z63PXbZ2mvFcdKeynYnVRRTARunjCpt2QACJFzrB3ZhQdS81ACzUdFD3L6pXPqHELHMhQRXybwPJdGrGk6fjkVHo6"}}}"#,
//! );
//! let decoded = JsonCodec::default().decode(&frame)?;
//! let [Message::Content(content)] = &decoded.messages[..] else { panic!("no content") };
//! let session = &content.sessions[0];
//! assert_eq!((session.after, session.end()), (2, 3));
//!
//! // The transaction is a slice of the frame, canonical as it is hashed and signed.
//! let transaction = &session.transactions[0];
//! assert_eq!(transaction.privacy(), Privacy::Private);
//! assert_eq!(transaction.encrypted_changes().as_deref(), Some("encrypted_UbL0QNOB4BENVd7uj"));
//! assert!(frame.as_ptr_range().contains(&transaction.json().as_ptr()));
//!
//! // It goes on to another client, or to another node, without being encoded again.
//! let (mut for_client, mut for_node) = (Vec::new(), Vec::new());
//! JsonCodec::default().encode(&decoded.messages[0], &mut for_client);
//! BinaryCodec::default().encode(&decoded.messages[0], &mut for_node);
//! assert_eq!(for_client, frame);
//! assert!(for_node.len() < frame.len());
//! # Ok::<(), downbeat_protocol::DecodeError>(())
//! ```
//!
//! # What there is
//!
//! - Identifiers, parsed once and cheap to copy, compare and hash: [`CoValueId`], [`SessionId`],
//!   [`AgentId`], [`Owner`], and keys, hashes and signatures ([`SignerId`], [`SealerId`],
//!   [`LongHash`], [`ShortHash`], [`Signature`]). All of them have `serde`.
//! - [`Header`] and [`Transaction`], each around its canonical JSON, read with `parse` or made with
//!   [`Header::builder`], [`Transaction::private`] and [`Transaction::trusting`].
//! - [`KnownState`] and [`SessionCounts`]: what a peer has.
//! - [`Message`] and what is in it.
//! - [`JsonCodec`] (module [`json`]), which Jazz clients speak, and [`BinaryCodec`] (module
//!   [`binary`]), compact, for links of our own and for storage, behind the trait [`Codec`].
//!
//! # What is refused
//!
//! [`Limits`] bound what decoding accepts, and nothing is allocated for more than was received; the
//! error says which [`Limit`] it was. Errors fall where they belong: a frame that is no JSON is a
//! [`DecodeError`] as a whole, a wrong message is in [`Frame::rejected`], a wrong session of a
//! content message in [`Content::malformed`], and everything beside them is decoded.
//!
//! What is right and wrong is what the reference implementation (the npm package `cojson`, version
//! 0.20) takes and refuses, found out by trying; the tests hold vectors recorded from it.

pub mod binary;
pub mod json;

mod codec;
mod error;
mod frame;
mod header;
mod header_builder;
mod id;
mod key;
mod known_state;
mod limits;
mod message;
mod serde_impls;
mod sessions;
mod text;
mod transaction;

pub use codec::{BinaryCodec, Codec, JsonCodec};
pub use error::{DecodeError, Limit};
pub use frame::Frame;
pub use header::{Header, Priority, Ruleset};
pub use header_builder::{HeaderBuilder, HeaderError, RandomnessError, Uniqueness};
pub use id::{
    AgentId, CoValueId, InvalidId, MAX_SESSION_ID_LEN, Owner, SHORT_HASH_LEN, SessionId, UnknownId,
};
pub use key::{LongHash, SealerId, ShortHash, Signature, SignerId};
pub use known_state::{KnownState, SessionCounts};
pub use limits::Limits;
pub use message::{
    Content, Known, MalformedSession, Message, Ping, Reconcile, SessionContent, Unknown,
    UnknownKind,
};
pub use transaction::{CHUNK_LEN, Privacy, Transaction};
