//! A storage of Downbeat: a store in a directory, on the embedded database sled.
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
//! - **Writes** run on one thread. Each `append` is one batch, applied atomically and flushed once.
//!   The queue of the thread is bounded by bytes; `append` waits for room.
//! - **Reads** run on a few threads, most of them asleep. A known state is one short scan, and a
//!   log is read in the order in which it is stored.
//! - **Damage** is found: every record has a checksum that covers its key, and a log that lost its
//!   end is refused on opening. Damage in one CoValue is reported for that CoValue, and the others
//!   can still be used.
//! - **A full disk** fails writes before sled meets it, because each batch requires some free
//!   space. Reads go on, and a reserve beside the log lets a store be opened on a full disk.
//! - **A failing disk** fails the writes that meet it. After the first error sled writes nothing
//!   more, but still reads. So the old tree serves reads until the disk can be written, and is then
//!   opened again. No restart is needed.
//! - **Garbage** in sled's log is cleaned by sled. [`SledStorage::compact`] rewrites a store without it.
//! - **A store that does not open** is read by [`SledSalvage`], without sled.
//! - **A store that is moved or deleted** while it is open refuses writes until it is back.
//!
//! [`docs/storage-format.md`] describes the files byte by byte.
//!
//! [`docs/storage-format.md`]: https://github.com/downbeat-sync/downbeat/blob/main/docs/storage-format.md

mod chunks;
mod compact;
mod draft;
mod erase;
mod keys;
mod open;
mod options;
mod read;
mod record;
mod salvage;
mod shared;
mod space;
mod store;
mod tree;
mod watermark;
mod writer;

pub use downbeat_storage::{Compacted, Durability};
pub use options::SledOptions;
pub use salvage::SledSalvage;
pub use store::SledStorage;
