//! Storage for Downbeat in an SQLite file: in that of the reference sync server, or in one of
//! Downbeat's own.
//!
//! To change from the reference server to Downbeat, stop one and start the other on the same file.
//! To change back, do the same.
//!
//! ```
//! use downbeat_storage::Storage;
//! use downbeat_storage_sqlite::SqliteStorage;
//!
//! # let parent = tempfile::tempdir()?;
//! # let file = parent.path().join("storage.db");
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let store = SqliteStorage::open(&file)?;
//! assert_eq!(store.count().await?, 0);
//! store.close().await?;
//! # Ok::<_, downbeat_storage::StorageError>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! - **The schema** of a file is that with which it was created: [`SqliteSchema::Reference`], the
//!   default, or [`SqliteSchema::Native`].
//! - **The tables of the reference** are in their newest version. Two tables are added,
//!   `downbeat_extensions` and `downbeat_totals`, which the reference ignores. They may be dropped
//!   while no server runs; the next points say what is lost.
//! - **The native tables** hold records with checksums. Only Downbeat can read them.
//! - **Writes** run on one thread. Each `append` is one transaction with one flush. The queue of
//!   the thread is bounded by bytes; `append` waits for room.
//! - **Reads** run on a few threads, each with its own connection. One call reads one snapshot, and
//!   the writer does not disturb it.
//! - **Damage** in native tables is found by checksums. In tables of the reference it is found where
//!   there is something to compare with. Headers are compared with their ids; counts, numbers and
//!   signatures with each other; pages by SQLite. Transactions that this crate wrote have checksums
//!   in `downbeat_extensions`, until that table is dropped. Rows that the reference wrote have no
//!   checksums. Only their signatures show whether they are what clients signed.
//! - **Another process** may have the file open and write to it. Readers see what it writes, but
//!   clients that are connected here are not notified.
//!
//! [`docs/storage-sqlite.md`] describes both schemas, and how to change from one server to the other.
//!
//! [`docs/storage-sqlite.md`]: https://github.com/downbeat-sync/downbeat/blob/main/docs/storage-sqlite.md

mod check;
mod compact;
mod connection;
mod draft;
mod error;
mod exclusive;
mod lock;
mod native;
mod options;
mod read;
mod reference;
mod schema;
mod store;
mod totals;
mod writer;

pub use downbeat_storage::{Compacted, Durability};
pub use lock::WriteLock;
pub use options::SqliteOptions;
pub use schema::SqliteSchema;
pub use store::SqliteStorage;
