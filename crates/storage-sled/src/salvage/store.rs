//! A damaged store as a read-only [`Storage`].

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use downbeat_protocol::{CoValueId, SessionContent, SessionCounts};
use downbeat_storage::{
    Damage, Erased, Outcome, Storage, StorageError, StoreStats, StoredCoValue, Unsynced,
    UnsyncedUpdate, Write,
};

use super::catalogue::{Catalogue, FoundSession};
use super::reading::{Found, readable_sessions};
use super::scan::log_len;
use crate::open::{FORMAT_VERSION, format_version, newer_format};
use crate::tree::LOG_FILE;
use crate::watermark;

/// The content that is left in the files of a damaged store, as a read-only [`Storage`].
///
/// Does not use sled, which changes a damaged log when it opens it. Never writes to the directory.
/// Reads all records that still have their checksum, wherever they are in sled's files. If the
/// newest version of a record is damaged, it uses the newest one that is intact.
///
/// - Sessions count what they had, as far as that is known. Reading beyond what is left fails
///   with [`StorageError::Corrupt`], as in a store that is open.
/// - [`Self::losses`] lists damage that reading does not meet.
/// - Writes fail. Calls block, because this is for tools.
///
/// Memory grows with the number of records, by about 100 bytes for each.
///
/// ```
/// use downbeat_storage::Storage;
/// use downbeat_storage_sled::{SledSalvage, SledStorage};
///
/// # let parent = tempfile::tempdir()?;
/// # let dir = parent.path().join("downbeat-data");
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// SledStorage::open(&dir)?.close().await?;
/// let salvage = SledSalvage::open(&dir, |_| ())?;
/// assert!(salvage.losses().is_empty());
/// assert_eq!(salvage.count().await?, 0);
/// # Ok::<_, downbeat_storage::StorageError>(())
/// # })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SledSalvage {
    found: Found,
    losses: Vec<Damage>,
    disk_bytes: u64,
    /// Held so that no process opens the store meanwhile.
    _lock: Arc<File>,
}

impl SledSalvage {
    /// Scans the files of a store, twice. `progress` gets the number of bytes that were read since
    /// the last call; [`Self::bytes_to_read`] is their sum.
    ///
    /// # Errors
    ///
    /// - [`StorageError::NotAStore`] if no record of a store is in the files,
    /// - [`StorageError::Locked`] if a process has the store open,
    /// - [`StorageError::NewerFormat`] if a newer version of this crate wrote it,
    /// - [`StorageError::Io`] if a file cannot be read.
    pub fn open(dir: impl AsRef<Path>, progress: impl FnMut(u64)) -> Result<Self, StorageError> {
        let dir = dir.as_ref();
        let lock = lock(dir)?;
        if let Ok(Some(found)) = format_version(dir)
            && found > FORMAT_VERSION
        {
            return Err(newer_format(dir, found));
        }
        let read_error = |error| StorageError::io(format!("cannot read {}", dir.display()), error);
        let disk_bytes = log_len(dir).map_err(read_error)?;
        let catalogue = Catalogue::read(dir, progress).map_err(read_error)?;
        if catalogue.records == 0 {
            return Err(not_a_store(dir, "its file `db` holds no record of a store"));
        }
        let found = Found::new(catalogue, dir).map_err(read_error)?;
        let losses = losses(&found, dir)?;
        Ok(Self { found, losses, disk_bytes, _lock: Arc::new(lock) })
    }

    /// Bytes that [`Self::open`] reads, for a display of progress.
    ///
    /// # Errors
    ///
    /// Those of [`Self::open`] for files that cannot be read.
    pub fn bytes_to_read(dir: impl AsRef<Path>) -> Result<u64, StorageError> {
        let dir = dir.as_ref();
        open_log(dir)?;
        log_len(dir)
            .map(|len| 2 * len)
            .map_err(|error| StorageError::io(format!("cannot read {}", dir.display()), error))
    }

    /// Losses that reading does not show: CoValues that are lost as a whole, sessions without any
    /// usable part, and batches at the end of the log.
    pub fn losses(&self) -> &[Damage] {
        &self.losses
    }
}

fn lock(dir: &Path) -> Result<File, StorageError> {
    let log = open_log(dir)?;
    match log.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Err(StorageError::Locked { path: dir.to_owned() }),
        // Some file systems have no locks. sled would not open a store there.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(log),
    }
}

fn open_log(dir: &Path) -> Result<File, StorageError> {
    let path = dir.join(LOG_FILE);
    match File::open(&path) {
        Ok(log) if fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) => Ok(log),
        Ok(_) => Err(not_a_store(dir, "its `db` is no file")),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(not_a_store(dir, "it has no file `db`"))
        }
        Err(error) => Err(StorageError::io(format!("cannot open {}", path.display()), error)),
    }
}

fn not_a_store(dir: &Path, reason: &str) -> StorageError {
    StorageError::NotAStore { path: dir.to_owned(), reason: reason.to_owned() }
}

/// Compares what was found with the totals and the watermark.
fn losses(found: &Found, dir: &Path) -> Result<Vec<Damage>, StorageError> {
    let mut losses = Vec::new();
    let mut transactions = 0;
    for (&id, co_value) in &found.catalogue.co_values {
        transactions += co_value.sessions.values().map(FoundSession::count).sum::<u64>();
        for (session, log) in readable_sessions(co_value) {
            if found.stored_session(id, session, log)?.is_none() {
                let reason = format!("all of its {} transactions are lost", log.count());
                losses.push(Damage::in_session(id, session, reason));
            }
        }
    }
    let log = dir.join(LOG_FILE).display().to_string();
    let mut lose = |reason| losses.push(Damage::in_record(log.as_str(), reason));
    let Some(totals) = found.catalogue.totals else {
        lose("the totals are lost, so CoValues may be missing that are not listed".to_owned());
        return Ok(losses);
    };
    let left = found.catalogue.co_values.len() as u64;
    if left < totals.co_values {
        let (gone, all) = (totals.co_values - left, totals.co_values);
        lose(format!("of {all} CoValues, {gone} are lost as a whole, and their ids with them"));
    }
    if transactions < totals.transactions {
        let (gone, all) = (totals.transactions - transactions, totals.transactions);
        lose(format!("of {all} transactions, {gone} belong to no session that is left"));
    }
    if let Some(marked) = watermark::marked(dir).filter(|&marked| marked > totals.batches) {
        let gone = marked - totals.batches;
        lose(format!("of {marked} batches, the last {gone} may be lost, or parts of them"));
    }
    Ok(losses)
}

fn read_only() -> StorageError {
    StorageError::backend("cannot write", "a store that is salvaged is only read")
}

#[async_trait]
impl Storage for SledSalvage {
    async fn append(&self, _: Vec<Write>) -> Result<Vec<Outcome>, StorageError> {
        Err(read_only())
    }

    async fn load(&self, id: CoValueId) -> Result<Option<StoredCoValue>, StorageError> {
        self.found.load(id)
    }

    async fn read(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError> {
        self.found.read(id, have, max_bytes)
    }

    async fn list(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let ids = self.found.catalogue.co_values.range((start, Bound::Unbounded));
        Ok(ids.take(limit).map(|(id, _)| *id).collect())
    }

    async fn count(&self) -> Result<u64, StorageError> {
        Ok(self.found.catalogue.co_values.len() as u64)
    }

    async fn erase(&self, _: CoValueId) -> Result<Erased, StorageError> {
        Err(read_only())
    }

    async fn erasable(
        &self,
        _: Option<CoValueId>,
        _: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        Ok(Vec::new())
    }

    async fn track_unsynced(&self, _: Vec<UnsyncedUpdate>) -> Result<(), StorageError> {
        Err(read_only())
    }

    async fn unsynced(&self, _: Option<Unsynced>, _: usize) -> Result<Vec<Unsynced>, StorageError> {
        Ok(Vec::new())
    }

    /// The totals, as they were last written.
    async fn stats(&self) -> Result<StoreStats, StorageError> {
        let totals = self.found.catalogue.totals.unwrap_or_default();
        Ok(totals.stats(Some(self.disk_bytes)))
    }

    async fn check(&self) -> Result<(), StorageError> {
        Err(read_only())
    }

    async fn close(&self) -> Result<(), StorageError> {
        Ok(())
    }
}
