//! The embedded default storage of Downbeat: a directory, kept by sled.
//!
//! ```
//! use downbeat_storage::Storage;
//! use downbeat_storage_sled::SledStorage;
//!
//! # let parent = tempfile::tempdir()?;
//! # let dir = parent.path().join("downbeat-data");
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let store = SledStorage::open(&dir)?;
//! assert_eq!(store.count().await?, 0);
//! store.close().await?;
//! # Ok::<_, downbeat_storage::StorageError>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! - **Writes** go to one thread. It takes what waits, applies it as one batch, and flushes once
//!   for all of it, so the cost of a flush is shared by all who write at the same time. What is
//!   waiting is bounded; whoever comes beyond that waits in `append`.
//! - **Reads** have a few threads, which sleep unless there is much to do. A known state is one
//!   short scan, a log is read in the order in which it lies.
//! - **Damage** is found: every record has a checksum that covers its key, a log that lost its end
//!   is refused on opening, and what is damaged in one CoValue is reported for that one and leaves
//!   the others as they are.
//! - **A full disk** fails writes before sled meets it: each batch needs some room on the file
//!   system. Reading goes on, and a reserve beside the log lets a store be opened on a full disk.
//! - **A failing disk** fails the writes that meet it. sled writes nothing more after the first
//!   error, but still reads. So the old tree is read until the disk can be written again, and is
//!   then opened anew. Nothing has to be restarted.
//! - **A store that is moved or deleted** while it is open takes nothing until it is back.
//!
//! [`docs/storage-format.md`] describes the files byte by byte.
//!
//! [`docs/storage-format.md`]: https://github.com/downbeat-sync/downbeat/blob/main/docs/storage-format.md

mod cache;
mod draft;
mod erase;
mod keys;
mod mark;
mod options;
mod parts;
mod place;
mod queue;
mod read;
mod record;
mod room;
mod shared;
mod store;
mod tree;
mod writer;

pub use options::{Durability, SledOptions};
pub use store::SledStorage;
