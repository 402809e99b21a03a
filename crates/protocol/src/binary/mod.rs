//! The binary codec: compact, for links between Downbeat nodes.
//!
//! The encoding is bincode 2's standard configuration: variable-length little-endian integers (one
//! byte up to 250), texts and byte strings as a length and their bytes, options as a byte 0 or 1,
//! lists as a length and their items, and enums as one byte.
//!
//! A frame is the version byte [`VERSION`], followed by messages, each a byte string:
//!
//! | first byte | message | then |
//! |---|---|---|
//! | 0 | load | known state |
//! | 1 | known | known state, is-correction (bool), as-dependency-of (option of CoValue id) |
//! | 2 | content | CoValue id, header (option), priority (0, 3, 6), sessions (list), expect-content-until (option of counts) |
//! | 3 | done | CoValue id |
//! | 4 | reconcile | batch id (text), list of CoValue id and 19 bytes of short hash |
//! | 5 | reconcile-ack | batch id (text) |
//! | 6 | ping | time, name (text) |
//! | 7 | a message about a text that is not a CoValue id | its kind (0 load, 1 known, 2 known as a correction, 3 content), the text |
//!
//! - Known state: CoValue id, header (bool), counts. Counts: list of session id and count.
//! - Session: session id, after, transactions (list), signature.
//! - CoValue id: its digits, without `co_z`. Signature: its digits, without `signature_z`.
//! - Session id: one byte (1 for a delete session, plus 2 for one owned by an agent), the owner
//!   (an account's digits, or the text of an agent id), and the random digits.
//! - Header and transaction: their canonical JSON as a byte string. This JSON is hashed and signed,
//!   so it needs no conversion, and a decoded transaction is a slice of the frame.

mod read;
mod write;

pub use read::decode_frame;
pub use write::{encode_message, encode_ping};

/// The first byte of every frame. Decoding fails for any other.
pub const VERSION: u8 = 1;

/// The first byte of each kind of message.
mod tag {
    pub(super) const LOAD: u8 = 0;
    pub(super) const KNOWN: u8 = 1;
    pub(super) const CONTENT: u8 = 2;
    pub(super) const DONE: u8 = 3;
    pub(super) const RECONCILE: u8 = 4;
    pub(super) const RECONCILE_ACK: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const UNKNOWN: u8 = 7;
}

/// The bits of the first byte of a session id.
mod session_flag {
    pub(super) const DELETE: u8 = 1;
    pub(super) const AGENT: u8 = 2;
}
