//! Reserved disk space, so that a store can be opened on a full disk.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::space::{allocated_bytes, fill, free_bytes, remove_probe};
use crate::error::StorageError;

/// Interval between attempts to complete a reserve.
const RETRY_INTERVAL: Duration = Duration::from_mins(1);

/// With less free space than this, an I/O error during opening counts as a full disk: some systems
/// and libraries do not report a full disk as such.
const ALMOST_FULL: u64 = 1 << 20;

/// A file beside a store that takes up disk space. It is removed when the store cannot be opened
/// because the disk is full, and written again when there is space.
#[derive(Debug)]
pub struct SpaceReserve {
    path: PathBuf,
    dir: PathBuf,
    tried: Option<Instant>,
    complete: bool,
}

impl SpaceReserve {
    /// The reserve at this path. The file may exist or not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let dir = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Self { path, dir, tried: None, complete: false }
    }

    /// Opens a store. If the disk is full, releases the reserve and tries a second time.
    ///
    /// # Errors
    ///
    /// The error of `open`.
    pub fn open_with<T>(
        &mut self,
        mut open: impl FnMut() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        remove_probe(&self.dir);
        match open() {
            Err(StorageError::Full { .. }) if self.release() => {}
            Err(StorageError::Io { .. }) if is_almost_full(&self.dir) && self.release() => {}
            other => return other,
        }
        let opened = open();
        // The space that is left is reserved for the next time.
        self.tried = None;
        opened
    }

    /// Removes the file, and returns whether there was one. It is not written again until there is
    /// enough space for all of it.
    pub fn release(&mut self) -> bool {
        if fs::remove_file(&self.path).is_err() {
            return false;
        }
        self.complete = false;
        self.tried = Some(Instant::now());
        true
    }

    /// Extends the file to this length if it is shorter, at most once a minute. Writes all of it if
    /// `margin` more bytes are free. Otherwise a reserve that was released takes the space that is
    /// left, so that the store can be opened the next time as well.
    pub fn keep(&mut self, bytes: u64, margin: u64) {
        if self.complete || self.tried.is_some_and(|tried| tried.elapsed() < RETRY_INTERVAL) {
            return;
        }
        let first = self.tried.is_none();
        self.tried = Some(Instant::now());
        let have = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        if have >= bytes {
            self.complete = true;
            return;
        }
        let Ok(free) = free_bytes(&self.dir) else { return };
        let free = free.unwrap_or(u64::MAX);
        if free >= (bytes - have).saturating_add(margin) {
            self.complete = fill(&self.path, have, bytes - have).is_ok();
        } else if first && free > 0 {
            let _ = fill(&self.path, have, free.min(bytes - have));
        }
        if !self.complete {
            self.truncate_to_allocated();
        }
    }

    /// When [`Self::keep`] should be called again, if the reserve is not complete.
    pub fn retry_at(&self) -> Option<Instant> {
        self.tried.filter(|_| !self.complete).map(|tried| tried + RETRY_INTERVAL)
    }

    /// The file must not look longer than the space that it holds.
    fn truncate_to_allocated(&self) {
        let Ok(metadata) = fs::metadata(&self.path) else { return };
        let there = allocated_bytes(&metadata);
        if there < metadata.len() {
            let file = OpenOptions::new().write(true).open(&self.path);
            let _ = file.and_then(|file| file.set_len(there));
        }
    }
}

fn is_almost_full(dir: &Path) -> bool {
    matches!(free_bytes(dir), Ok(Some(free)) if free < ALMOST_FULL)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    fn full() -> StorageError {
        StorageError::io("cannot write", ErrorKind::StorageFull.into())
    }

    #[test]
    fn a_reserve_is_given_up_for_opening_on_a_full_disk_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let mut reserve = SpaceReserve::new(&path);
        reserve.keep(1 << 20, 0);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.len(), 1 << 20);
        assert!(allocated_bytes(&metadata) >= 1 << 20, "a sparse file reserves nothing");
        assert_eq!(reserve.retry_at(), None);

        let mut tries = 0;
        let opened = SpaceReserve::new(&path).open_with(|| {
            tries += 1;
            if path.exists() { Err(full()) } else { Ok(tries) }
        });
        assert_eq!(opened.unwrap(), 2);
        let mut reserve = SpaceReserve::new(&path);
        let error = reserve.open_with(|| Err::<(), _>(full())).unwrap_err();
        assert!(matches!(error, StorageError::Full { .. }), "without a reserve it fails: {error}");
        reserve.keep(1 << 20, 0);
        assert!(path.exists());
    }

    #[test]
    fn a_reserve_is_not_given_up_for_other_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let mut reserve = SpaceReserve::new(&path);
        reserve.keep(1 << 20, 0);
        assert!(reserve.open_with(|| Err::<(), _>(StorageError::Closed)).is_err());
        assert!(path.exists());
    }
}
