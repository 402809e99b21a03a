//! When files have changed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files that are read together, and what they were like when they were read.
#[derive(Debug)]
pub(crate) struct Changes<const N: usize> {
    paths: [PathBuf; N],
    pub(super) seen: Option<Vec<Fingerprint>>,
    /// What the files were like at the last look, if that is something else.
    changing: Option<Vec<Fingerprint>>,
}

/// A file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: the file cannot be read: {source}", path.display())]
pub(crate) struct Unreadable {
    pub path: PathBuf,
    pub source: io::Error,
}

impl<const N: usize> Changes<N> {
    /// To be called before the files are read for the first time.
    pub(crate) fn new(paths: [&Path; N]) -> Self {
        let paths = paths.map(Path::to_owned);
        Self { seen: fingerprints(&paths).ok(), paths, changing: None }
    }

    /// Reads the files if they have changed and have stayed the same since the last look; when
    /// `forced`, at once. `None` while they are the same or being written. What could not be read
    /// has not been seen: the next look tries again.
    pub(crate) fn read<T>(
        &mut self,
        forced: bool,
        read: impl FnOnce(&[PathBuf; N]) -> Result<T, Unreadable>,
    ) -> Result<Option<T>, Unreadable> {
        let found = fingerprints(&self.paths)?;
        let is_old = self.seen.as_ref() == Some(&found);
        if !forced && (is_old || self.changing.as_ref() != Some(&found)) {
            self.changing = (!is_old).then_some(found);
            return Ok(None);
        }
        let value = read(&self.paths)?;
        let after = fingerprints(&self.paths)?;
        if after != found {
            self.changing = Some(after);
            return Ok(None);
        }
        (self.seen, self.changing) = (Some(found), None);
        Ok(Some(value))
    }
}

fn fingerprints(paths: &[PathBuf]) -> Result<Vec<Fingerprint>, Unreadable> {
    let unreadable = |path: &PathBuf, source| Unreadable { path: path.clone(), source };
    let all = paths.iter().map(|path| Fingerprint::of(path).map_err(|e| unreadable(path, e)));
    all.collect()
}

/// What changes when a file is written anew, or another one put in its place. Times are coarse, and
/// some programs set them back, but not the one that the system keeps of every change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    modified: SystemTime,
    bytes: u64,
    /// Device, inode, and the time of the last change in seconds and nanoseconds.
    #[cfg(unix)]
    file: (u64, u64, i64, i64),
}

impl Fingerprint {
    fn of(path: &Path) -> std::io::Result<Self> {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            modified: metadata.modified()?,
            bytes: metadata.len(),
            #[cfg(unix)]
            file: (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}
