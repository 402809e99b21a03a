//! File system helpers for backends that keep files.
//!
//! [`FileIdentity`] tells whether an open file is still at its path. [`sync_names`] makes names
//! survive a power failure. [`require_space`],
//! [`require_file_length`] and [`probe_space`] find a full disk before the engine meets it.
//! [`SpaceReserve`] keeps space to open a store on a full disk.

mod identity;
mod names;
mod reserve;
mod space;

pub use identity::FileIdentity;
pub use names::sync_names;
pub use reserve::SpaceReserve;
pub use space::{probe_space, require_file_length, require_space};
