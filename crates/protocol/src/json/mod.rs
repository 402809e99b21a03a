//! The JSON codec: what Jazz clients speak over a WebSocket.
//!
//! A text frame has messages as JSON objects, joined by `\n`. The member `action` is the kind of a
//! message; a server also sends pings (`{"type":"ping",…}`). [`decode_frame`] accepts what
//! `JSON.parse` accepts: members in any order, any white space, any notation of numbers and
//! strings, and the last of repeated members. Unknown members are ignored. [`encode_message`]
//! writes compact JSON with the reference's order of members. [`Lines`] reads files of messages.

pub(crate) mod canonical;
mod content;
mod encode;
mod frame;
pub(crate) mod header;
mod lines;
mod native;
pub(crate) mod number;
mod scan;
mod slot;
pub(crate) mod string;
pub(crate) mod transaction;
pub(crate) mod transcode;
mod value;

pub use canonical::canonicalize;
pub use encode::{encode_message, encode_ping};
pub use frame::decode_frame;
pub use lines::{Line, Lines, LinesError};
