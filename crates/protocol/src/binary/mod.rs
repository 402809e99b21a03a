//! The binary codec: compact, for links between Downbeat nodes.
//!
//! Everything is written in bincode 2's standard configuration: integers as variable-length
//! little-endian (one byte up to 250), texts and byte strings as a length and their bytes, options
//! as a byte 0 or 1, lists as a length and their items, choices as one byte.
//!
//! A frame is the version byte [`VERSION`] and then messages, each a byte string:
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
//! | 7 | a message about a text that is no CoValue id | its kind (0 load, 1 known, 2 known as a correction, 3 content), the text |
//!
//! - Known state: CoValue id, header (bool), counts. Counts: list of session id and count.
//! - Session: session id, after, transactions (list), signature.
//! - CoValue id: its digits, without `co_z`. Signature: its digits, without `signature_z`.
//! - Session id: one byte (1 for a delete session, plus 2 for one owned by an agent), the owner
//!   (an account's digits, or an agent id as it is), and the random digits.
//! - Header and transaction: their canonical JSON as a byte string. It is what is hashed and
//!   signed, so nothing has to be encoded again, and a decoded transaction is a slice of the frame.

mod read;
mod write;

pub use read::decode_frame;
pub use write::{encode_message, encode_ping};

/// The first byte of every frame. A decoder refuses any other.
pub const VERSION: u8 = 1;

/// Kinds of messages, as their first byte tells them.
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

/// What is said in the first byte of a session id.
mod session_flag {
    pub(super) const DELETE: u8 = 1;
    pub(super) const AGENT: u8 = 2;
}
