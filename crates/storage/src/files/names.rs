//! Names of files that survive a power failure.

use std::fs;
#[cfg(unix)]
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::error::StorageError;

/// Makes the name of a file or directory durable, and the names of all directories above it. The
/// content of a directory includes its names.
///
/// A flush of a file does not flush its name: after a power failure, flushed content may be in a
/// file without a name. A backend calls this after it has created its files, and before it
/// acknowledges a write. It must not assume that another process, which may have died meanwhile,
/// has done so.
///
/// Skips directories that this process must not read: it has not created anything in them. Does
/// nothing outside of Unix, where directories cannot be flushed.
///
/// # Errors
///
/// [`StorageError::Io`] if a directory cannot be flushed.
pub fn sync_names(path: &Path) -> Result<(), StorageError> {
    let error = |dir: &Path, error: io::Error| {
        StorageError::io(format!("cannot sync the directory {}", dir.display()), error)
    };
    // The real directories, also if the path is relative or has symbolic links.
    let path = fs::canonicalize(path).map_err(|source| error(path, source))?;
    for dir in path.ancestors() {
        if !dir.is_dir() {
            continue;
        }
        match sync(dir) {
            Err(source) if is_tolerated(&source) => {}
            result => result.map_err(|source| error(dir, source))?,
        }
    }
    Ok(())
}

#[cfg(unix)]
fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "fails on Unix")]
fn sync(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Whether a directory is not this process's own, or on a file system that flushes names by itself:
/// some refuse to flush directories.
fn is_tolerated(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::InvalidInput | ErrorKind::Unsupported
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        sync_names(&dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/file"), "").unwrap();
        sync_names(&dir.path().join("a/file")).unwrap();
        let error = sync_names(&dir.path().join("a/other")).unwrap_err();
        assert!(error.to_string().contains("a/other"), "{error}");
    }
}
