//! The storage contract of Downbeat, an in-memory backend and a conformance suite for backends.

#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
#[cfg(feature = "faults")]
mod faults;
mod memory;
mod runs;
mod storage;
mod types;

pub use error::{Damage, StorageError};
#[cfg(feature = "faults")]
pub use faults::{Fault, FaultyStorage, Operation};
pub use memory::MemoryStorage;
pub use runs::{Extension, Runs, SinceCheckpoint};
pub use storage::Storage;
pub use types::{
    CHECKPOINT_LEN, Erased, InvalidUpstreamName, MAX_UPSTREAM_NAME_LEN, Outcome, SessionOutcome,
    Stats, Stored, StoredSession, Unsynced, UnsyncedUpdate, UpstreamName, Write,
};
