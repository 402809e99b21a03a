//! The storage contract of Downbeat, an in-memory backend and a conformance suite for backends.

mod error;
mod storage;
mod types;

pub use error::{Place, StorageError};
pub use storage::Storage;
pub use types::{
    CHECKPOINT_LEN, Erased, InvalidUpstreamName, MAX_UPSTREAM_NAME_LEN, Outcome, SessionOutcome,
    Stats, Stored, StoredSession, Unsynced, UnsyncedUpdate, UpstreamName, Write,
};
