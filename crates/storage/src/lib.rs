//! The storage contract of Downbeat, an in-memory backend and a conformance suite for backends.

mod error;
mod memory;
mod runs;
mod storage;
mod types;

pub use error::{Damage, StorageError};
pub use memory::MemoryStorage;
pub use runs::{Extension, Runs, SinceCheckpoint};
pub use storage::Storage;
pub use types::{
    CHECKPOINT_LEN, Erased, InvalidUpstreamName, MAX_UPSTREAM_NAME_LEN, Outcome, SessionOutcome,
    Stats, Stored, StoredSession, Unsynced, UnsyncedUpdate, UpstreamName, Write,
};
