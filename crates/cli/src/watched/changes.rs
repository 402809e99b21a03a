//! Detects changes of files.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files that are read together, and their state at the last read.
#[derive(Debug)]
pub(crate) struct Changes<const N: usize> {
    paths: [PathBuf; N],
    pub(super) seen: Option<Vec<Fingerprint>>,
    /// The state at the last look, if it differs from the state at the last read.
    changing: Option<Vec<Fingerprint>>,
}

/// A file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot read the file: {source}", path.display())]
pub(crate) struct Unreadable {
    pub path: PathBuf,
    pub source: io::Error,
}

impl<const N: usize> Changes<N> {
    /// Remembers the present state of the files. Create this before the first read.
    pub(crate) fn new(paths: [&Path; N]) -> Self {
        let paths = paths.map(Path::to_owned);
        Self { seen: fingerprints(&paths).ok(), paths, changing: None }
    }

    /// Reads the files if they have changed and then stayed the same for one look, or at once if
    /// `forced`. `None` if they are unchanged or still being written. After an error, the next look
    /// tries again.
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

/// The properties of a file that change when it is written or replaced. Modification times are
/// coarse and can be set back; the change time cannot.
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
