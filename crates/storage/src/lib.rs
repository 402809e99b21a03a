//! The storage contract of Downbeat, a backend in memory, and a suite that tells whether a backend
//! keeps the contract.
//!
//! A [`Storage`] keeps CoValues: their headers, and for each session a log of transactions that
//! only ever grows. What is appended are *extensions*, each with the count of transactions that it
//! expects in the log and the signature under which it came; what is read are *runs*, extensions
//! merged up to the next checkpoint, each ending at a known signature. So what is served does not
//! depend on how small the pieces were in which it arrived.
//!
//! ```
//! use downbeat_protocol::{
//!     CoValueId, Header, Ruleset, SessionContent, SessionCounts, SessionId, Signature, Transaction,
//! };
//! use downbeat_storage::{MemoryStorage, Outcome, SessionOutcome, Storage, Write};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let store = MemoryStorage::new();
//!
//! // A store takes what its caller has verified. This is not; any id and signature will do.
//! let id = CoValueId::parse("co_zABC")?;
//! let session = SessionId::parse("co_zDEF_session_z1")?;
//! let extension = |after, changes| SessionContent {
//!     session: session.clone(),
//!     after,
//!     transactions: vec![Transaction::trusting(changes, 1_700_000_000_000, None)],
//!     last_signature: Signature::from_bytes(&[7; 64]),
//! };
//! let header = Header::builder("comap", Ruleset::UnsafeAllowAll).build()?;
//! let create = Write::Append { id, header: Some(header), sessions: vec![extension(0, "[1]")] };
//! let extend = Write::Append { id, header: None, sessions: vec![extension(1, "[2]")] };
//! let late = Write::Append { id, header: None, sessions: vec![extension(1, "[3]")] };
//!
//! let outcomes = store.append(vec![create, extend, late]).await?;
//! assert!(outcomes[0].is_complete() && outcomes[1].is_complete());
//! assert_eq!(outcomes[2], Outcome::Applied(vec![SessionOutcome::Conflict { stored: 2 }]));
//!
//! let runs = store.read(id, &SessionCounts::new(), 1 << 20).await?;
//! assert_eq!(runs.len(), 1, "two small extensions make one run");
//! assert_eq!(runs[0].transactions.len(), 2);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Writing a backend
//!
//! Implement [`Storage`]; its documentation is the contract. [`SinceCheckpoint`] and [`Runs`] hold
//! the one rule that all backends must share, where logs are cut. Then run
//! `conformance::run` (feature "conformance") in a test, and `conformance::run_reopening` if the
//! backend keeps its data. A backend whose reading blocks has `Readers` (feature "readers") for it, and
//! answers [`Storage::load_many`] and [`Storage::read_many`] with one job.
//!
//! # Features
//!
//! - `conformance`: the suite.
//! - `faults`: `FaultyStorage`, a store that fails when it is told to, for tests of those who use
//!   stores.
//! - `files`: whether a file is still in its place, how much room there is, and a reserve of room,
//!   for backends that keep files.
//! - `readers`: `Readers`, threads that read, for backends whose reading blocks.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
#[cfg(feature = "faults")]
mod faults;
#[cfg(feature = "files")]
pub mod files;
mod memory;
#[cfg(feature = "readers")]
mod readers;
mod runs;
mod storage;
mod types;

pub use batch::{BatchLimits, Batcher};
pub use error::{Damage, StorageError};
#[cfg(feature = "faults")]
pub use faults::{Fault, FaultyStorage, Operation};
pub use memory::MemoryStorage;
#[cfg(feature = "readers")]
pub use readers::{Extent, Readers};
pub use runs::{Extension, Runs, SinceCheckpoint, read_each};
pub use storage::Storage;
pub use types::{
    Erased, InvalidUpstreamName, MAX_UPSTREAM_NAME_LEN, Outcome, SessionOutcome, Stats, Stored,
    StoredSession, Unsynced, UnsyncedUpdate, UpstreamName, Write,
};
