//! The JSON codec: what Jazz clients speak over a WebSocket.
//!
//! A frame of text holds messages as JSON objects, joined by `\n`, with `action` saying which kind
//! each is; a server also sends `{"type":"ping",…}`. [`decode_frame`] reads as `JSON.parse` does:
//! any order of members, any white space, of repeated members the last, numbers and strings written
//! in any way; what is not expected is ignored. [`encode_message`] writes compactly, in the order of
//! members that the reference has.

pub(crate) mod canonical;
mod content;
mod encode;
mod frame;
pub(crate) mod header;
mod native;
pub(crate) mod number;
mod scan;
mod slot;
pub(crate) mod string;
pub(crate) mod transaction;
mod value;

pub use canonical::canonicalize;
pub use encode::{encode_message, encode_ping};
pub use frame::decode_frame;
