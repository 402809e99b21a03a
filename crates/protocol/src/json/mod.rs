//! The JSON codec: what Jazz clients speak.

pub(crate) mod canonical;
mod content;
mod encode;
mod frame;
pub(crate) mod header;
mod native;
mod number;
mod scan;
mod slot;
pub(crate) mod string;
pub(crate) mod transaction;
mod value;

pub use canonical::canonicalize;
pub use encode::{encode_message, encode_ping};
pub use frame::decode_frame;
