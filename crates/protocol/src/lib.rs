//! Messages, identifiers, headers and transactions of the Jazz sync protocol.

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
mod sessions;
mod text;
mod transaction;

pub use codec::{BinaryCodec, Codec, JsonCodec};
pub use error::{DecodeError, Limit};
pub use frame::Frame;
pub use header::{Header, Priority, Ruleset};
pub use header_builder::{HeaderBuilder, Uniqueness};
pub use id::{AgentId, CoValueId, InvalidId, MAX_SESSION_ID_LEN, Owner, SHORT_HASH_LEN, SessionId};
pub use key::{LongHash, SealerId, ShortHash, Signature, SignerId};
pub use known_state::{KnownState, SessionCounts};
pub use limits::Limits;
pub use message::{Content, Known, MalformedSession, Message, Ping, Reconcile, SessionContent};
pub use transaction::{Privacy, Transaction};
