//! Storage for Downbeat in the file that the reference sync server writes.
//!
//! An operator changes from the reference server to Downbeat by stopping one and starting the
//! other on the same file, and back in the same way.
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
//! - **The tables** are the reference's, brought up to its newest version on opening. Beside them
//!   are two of our own, `downbeat_extensions` and `downbeat_totals`, at which the reference never
//!   looks. They may be dropped while no server runs; what is lost then is said below.
//! - **Writes** go to one thread. It takes what waits and makes one transaction of it, so the cost
//!   of a flush is shared by all who write at the same time. What is waiting is bounded; whoever
//!   comes beyond that waits in `append`.
//! - **Reads** run on a few threads, each with a connection of its own. What is asked for in one call
//!   is read from one snapshot; the writer does not disturb it.
//! - **Damage** is found where there is something to compare with: headers by their ids, counts,
//!   numbers and signatures by each other, pages by SQLite, and what was written here, as opposed
//!   to what the reference has written, by checksums as long as `downbeat_extensions` is there. The
//!   reference's own rows have no checksums; whether they are what clients signed can be told by
//!   their signatures alone.
//! - **Another process** may have the file open and write to it. What it writes is seen, but who
//!   is connected here is not told of it.
//!
//! [`docs/storage-sqlite.md`] describes the file, and how to change from one server to the other.
//!
//! [`docs/storage-sqlite.md`]: https://github.com/downbeat-sync/downbeat/blob/main/docs/storage-sqlite.md

mod check;
mod connection;
mod draft;
mod erase;
mod extension;
mod fault;
mod header;
mod index;
mod log;
mod options;
mod queue;
mod read;
mod schema;
mod store;
mod totals;
mod writer;

pub use options::{Durability, SqliteOptions};
pub use store::SqliteStorage;
