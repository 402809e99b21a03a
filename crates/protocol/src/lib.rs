//! Messages, identifiers, headers and transactions of the Jazz sync protocol, and the codecs that
//! encode and decode them.
//!
//! Jazz applications keep their data in CoValues. A CoValue has a *header*, with its type and its
//! access rules, and append-only logs of *transactions*, one log for each *session* of a writer.
//! Peers synchronize CoValues with six kinds of [`Message`]. The types of this crate are valid by
//! construction. The crate does no I/O and no cryptography, and never panics on its input.
//!
//! ```
//! use bytes::Bytes;
//! use downbeat_protocol::{BinaryCodec, Codec, JsonCodec, Message, Privacy};
//!
//! // A frame from a client, with one message on each line. This message has a new transaction.
//! let frame = Bytes::from_static(
//!     br#"{"action":"content","id":"co_z3KtTqHpdiLVqUedLN8UzsfaYrx","priority":3,"new":{"co_z4ht58AuLQgjaGmagVHAARGVRWk_session_zRWdnriVjeWM":{"after":2,"newTransactions":[{"encryptedChanges":"encrypted_UbL0QNOB4BENVd7uj","keyUsed":"key_zmhRoC5awrAhP4Qqz","madeAt":1795333719292,"privacy":"private"}],"lastSignature":"signature_z63PXbZ2mvFcdKeynYnVRRTARunjCpt2QACJFzrB3ZhQdS81ACzUdFD3L6pXPqHELHMhQRXybwPJdGrGk6fjkVHo6"}}}"#,
//! );
//! let decoded = JsonCodec::default().decode(&frame)?;
//! let [Message::Content(content)] = &decoded.messages[..] else { panic!("no content") };
//! let session = &content.sessions[0];
//! assert_eq!((session.after, session.end()), (2, 3));
//!
//! // The transaction is a slice of the frame, in the canonical form that is hashed and signed.
//! let transaction = &session.transactions[0];
//! assert_eq!(transaction.privacy(), Privacy::Private);
//! assert_eq!(transaction.encrypted_changes().as_deref(), Some("encrypted_UbL0QNOB4BENVd7uj"));
//! assert!(frame.as_ptr_range().contains(&transaction.json().as_ptr()));
//!
//! // Sending it to another client or node copies these bytes.
//! let (mut for_client, mut for_node) = (Vec::new(), Vec::new());
//! JsonCodec::default().encode(&decoded.messages[0], &mut for_client);
//! BinaryCodec::default().encode(&decoded.messages[0], &mut for_node);
//! assert_eq!(for_client, frame);
//! assert!(for_node.len() < frame.len());
//! # Ok::<(), downbeat_protocol::DecodeError>(())
//! ```
//!
//! # Contents
//!
//! - Identifiers, parsed once and cheap to copy, compare and hash: [`CoValueId`], [`SessionId`],
//!   [`AgentId`], [`Owner`], and keys, hashes and signatures ([`SignerId`], [`SealerId`],
//!   [`LongHash`], [`ShortHash`], [`Signature`]).
//! - [`Header`] and [`Transaction`], each with its canonical JSON. `parse` reads them;
//!   [`Header::builder`], [`Transaction::private`] and [`Transaction::trusting`] create them.
//! - [`KnownState`] and [`SessionCounts`]: the transactions that a peer has.
//! - [`Message`] and its parts.
//! - The codecs, behind the trait [`Codec`]: [`JsonCodec`] (module [`json`]), which Jazz clients
//!   speak, and the compact [`BinaryCodec`] (module [`binary`]) for links between Downbeat nodes.
//! - [`json::Lines`], which reads files of JSON messages.
//!
//! All of these implement `serde`. Headers, transactions and messages keep the structure of their
//! JSON in human-readable formats. If a header has fractions in its `meta`, read it with
//! [`Header::parse`]: `serde_json` rounds them unless its feature `float_roundtrip` is on.
//!
//! # Errors
//!
//! [`Limits`] bound the accepted input, and memory is allocated only for bytes that were received.
//! An error affects the smallest possible part: a frame that is not JSON is a [`DecodeError`] as a
//! whole, an invalid message is in [`Frame::rejected`], an invalid session of a content message is
//! in [`Content::malformed`], and all other parts are decoded.
//!
//! The rules are those of the reference implementation (the npm package `cojson`, version 0.20),
//! determined by tests. The vectors in this crate's tests are recorded from it.

pub mod binary;
pub mod json;

mod codec;
mod error;
mod frame;
mod header;
mod header_builder;
mod id;
mod invalid_id;
mod key;
mod known_state;
mod limits;
mod message;
mod printable;
mod serde_impls;
mod sessions;
mod text;
mod transaction;
mod upstream_name;

pub use bytes::Bytes;
pub use codec::{BinaryCodec, Codec, JsonCodec};
pub use error::{DecodeError, Limit};
pub use frame::Frame;
pub use header::{Header, Priority, Ruleset};
pub use header_builder::{HeaderBuilder, HeaderError, RandomnessError, Uniqueness};
pub use id::{AgentId, CoValueId, MAX_SESSION_ID_LEN, Owner, SessionId, UnknownId};
pub use invalid_id::InvalidId;
pub use key::{LongHash, SHORT_HASH_LEN, SealerId, ShortHash, Signature, SignerId};
#[cfg(feature = "count-steps")]
#[doc(hidden)]
pub use known_state::take_steps;
pub use known_state::{CountsIter, Differences, KnownState, SessionCounts};
pub use limits::Limits;
pub use message::{
    Content, Known, MAX_BATCH_ID_LEN, MalformedSession, Message, Ping, Reconcile, SessionContent,
    Unknown, UnknownKind,
};
pub use printable::{Printable, is_unprintable};
pub use transaction::{CHUNK_LEN, Privacy, Transaction};
pub use upstream_name::{InvalidUpstreamName, MAX_UPSTREAM_NAME_LEN, UpstreamName};
