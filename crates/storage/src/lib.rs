//! The storage contract of Downbeat, a backend in memory, and a conformance suite for backends.
//!
//! A [`Storage`] keeps CoValues. Each has a header, and a log of transactions for each session that
//! only grows. Writers append *extensions*: some transactions, the number of transactions expected
//! before them, and the signature of the log after them. Readers get *runs*: extensions merged up
//! to the next checkpoint, each ending at a known signature. So the pieces that are served do not
//! depend on the pieces that were written.
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
//! // The caller verifies content before it stores it. This example skips that.
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
//! the one rule that all backends share: where logs are cut. A backend whose engine blocks reads on
//! `ReaderThreads` and writes on a `WriterThread` (feature `threads`). A backend that keeps files
//! has helpers in `files` (feature `files`).
//!
//! Then test it (feature `conformance`):
//!
//! - `conformance::run` checks the contract rule by rule, with concurrent writers and random
//!   histories;
//! - `conformance::run_reopening` checks that a store keeps its data;
//! - `conformance::run_moving` checks that nothing is acknowledged into a store that was moved away
//!   or deleted.
//!
//! `examples/append_log.rs` is a durable backend over one append-only file, in under 300 lines,
//! that passes all three.
//!
//! # Testing code that uses a store
//!
//! `FaultyStorage` (feature `faults`) wraps a store and fails on request: a call fails before or
//! after its effect, tears a batch, waits, or panics.
//!
//! ```
//! # #[cfg(feature = "faults")]
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use downbeat_storage::{
//!     FaultyStorage, InjectedFailure, MemoryStorage, Operation, Storage, StorageError,
//! };
//!
//! let store = FaultyStorage::new(MemoryStorage::new());
//! let full = StorageError::io("cannot write", std::io::ErrorKind::StorageFull.into());
//! store.inject(Operation::Append, InjectedFailure::Fail(full));
//! assert!(matches!(store.append(Vec::new()).await, Err(StorageError::Full { .. })));
//! assert!(store.append(Vec::new()).await.is_ok());
//! # });
//! ```
//!
//! # Panics
//!
//! A panic of this workspace's code is a bug, and only the border of a task of the node catches it.
//! The threads of a backend hand a panic over to the task that waits for the answer. A panic of an
//! engine is no bug of this code: the backend turns it into a [`StorageError`] at the one place
//! where it calls the engine.
//!
//! # Features
//!
//! - `conformance`: the conformance suite, and its fixtures of signed content.
//! - `benchmarks`: one benchmark for all backends, run by the `benches` of each.
//! - `faults`: `FaultyStorage`.
//! - `files`: file identity, free space, and reserved space, for backends that keep files.
//! - `records`: the encoding of records that the backends of this workspace share.
//! - `threads`: `ReaderThreads` and `WriterThread`, for backends whose engine blocks.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
#[cfg(feature = "benchmarks")]
pub mod benchmarks;
#[doc(hidden)]
pub mod cache;
#[cfg(feature = "conformance")]
pub mod conformance;
mod durability;
mod error;
#[cfg(feature = "faults")]
mod faults;
#[cfg(feature = "files")]
pub mod files;
mod memory;
#[cfg(feature = "records")]
#[doc(hidden)]
pub mod records;
mod runs;
mod storage;
#[cfg(feature = "threads")]
mod threads;
mod types;

// Everything that an implementation of `Storage` names.
#[doc(no_inline)]
pub use async_trait::async_trait;
#[doc(no_inline)]
pub use downbeat_protocol as protocol;
// The type in `InjectedFailure::Wait`.
#[cfg(feature = "faults")]
#[doc(no_inline)]
pub use tokio::sync::Notify;

pub use batch::{BatchLimits, Batcher};
pub use downbeat_protocol::{InvalidUpstreamName, MAX_UPSTREAM_NAME_LEN, UpstreamName};
pub use durability::Durability;
pub use error::{Damage, StorageError};
#[cfg(feature = "faults")]
pub use faults::{FaultyStorage, InjectedFailure, Operation};
pub use memory::MemoryStorage;
pub use runs::{Extension, Runs, SinceCheckpoint, read_each};
pub use storage::Storage;
#[cfg(feature = "threads")]
pub use threads::{ReadExtent, ReaderThreads, WriterState, WriterThread};
pub use types::{
    Compacted, Erased, Outcome, SessionOutcome, StoreStats, StoredCoValue, StoredSession, Unsynced,
    UnsyncedUpdate, Write,
};
