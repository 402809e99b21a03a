//! Free space on a file system.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::error::StorageError;

/// The file that [`probe_space`] writes and removes.
const PROBE_FILE: &str = "room.tmp";

/// Checks that the file system of a directory has `bytes` bytes free for this process.
///
/// Quotas and limits on the length of files do not show here, and another process may take the
/// space at any time. Outside Unix the check always succeeds.
///
/// # Errors
///
/// [`StorageError::Full`] if less is free, and [`StorageError::Io`] if the system cannot tell.
pub fn require_space(dir: &Path, bytes: u64) -> Result<(), StorageError> {
    let free = free_bytes(dir).map_err(|error| {
        StorageError::io(format!("cannot read the free space of {}", dir.display()), error)
    })?;
    match free {
        Some(free) if free < bytes => {
            let action = format!(
                "{} has {} KiB of free space, and safe writing takes {} KiB",
                dir.display(),
                free >> 10,
                bytes >> 10
            );
            let source = io::Error::from(ErrorKind::StorageFull).into();
            Err(StorageError::Full { action, source })
        }
        _ => Ok(()),
    }
}

/// Checks that this process may write files of this length (`RLIMIT_FSIZE`).
///
/// # Errors
///
/// [`StorageError::Io`] if it may not.
pub fn require_file_length(file: &Path, bytes: u64) -> Result<(), StorageError> {
    match length_limit() {
        Some(limit) if limit < bytes => {
            let action = format!(
                "cannot write to {}: no file may be longer than {} KiB",
                file.display(),
                limit >> 10
            );
            Err(StorageError::io(action, ErrorKind::FileTooLarge.into()))
        }
        _ => Ok(()),
    }
}

/// Checks that a file in a directory can take `bytes` bytes from `offset` on, by writing such a
/// file and removing it. Finds limits that [`require_space`] does not: quotas, and the longest
/// file.
///
/// # Errors
///
/// The error of the system.
pub fn probe_space(dir: &Path, offset: u64, bytes: u64) -> Result<(), StorageError> {
    let path = dir.join(PROBE_FILE);
    let result = fill(&path, offset, bytes);
    let removed = fs::remove_file(&path);
    let error = |error| StorageError::io(format!("cannot write to {}", path.display()), error);
    result.map_err(error)?;
    removed.map_err(error)
}

/// Removes the file that a crash may have left of [`probe_space`].
pub(super) fn remove_probe(dir: &Path) {
    let _ = fs::remove_file(dir.join(PROBE_FILE));
}

#[cfg(unix)]
fn length_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

#[cfg(not(unix))]
fn length_limit() -> Option<u64> {
    None
}

/// The free space for this process; `None` if the system does not know it.
#[cfg(unix)]
pub(super) fn free_bytes(dir: &Path) -> io::Result<Option<u64>> {
    let about = rustix::fs::statvfs(dir)?;
    // A file system without a size has no meaningful free space either.
    Ok((about.f_blocks > 0).then(|| about.f_bavail.saturating_mul(about.f_frsize)))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "other systems may fail")]
pub(super) fn free_bytes(_: &Path) -> io::Result<Option<u64>> {
    Ok(None)
}

#[cfg(unix)]
pub(super) fn allocated_bytes(metadata: &Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    metadata.blocks() * 512
}

#[cfg(not(unix))]
pub(super) fn allocated_bytes(metadata: &Metadata) -> u64 {
    metadata.len()
}

/// Gives a file `bytes` bytes of space from `offset` on.
pub(super) fn fill(path: &Path, offset: u64, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    if allocate(&file, offset, bytes)? {
        return Ok(());
    }
    write_noise(file, offset, bytes)
}

/// `false` if the file system cannot allocate.
#[cfg(target_os = "linux")]
fn allocate(file: &File, offset: u64, bytes: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::empty(), offset, bytes) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "other systems may fail")]
fn allocate(_: &File, _: u64, _: u64) -> io::Result<bool> {
    Ok(false)
}

/// Writes bytes that no file system compresses.
fn write_noise(mut file: File, offset: u64, bytes: u64) -> io::Result<()> {
    use std::io::{Seek as _, SeekFrom, Write as _};
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // Xorshift: any pattern without repetitions is good enough.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    file.seek(SeekFrom::Start(offset))?;
    let mut left = bytes;
    while left > 0 {
        let block: Vec<u8> = (0..8_192).flat_map(|_| next()).collect();
        let len = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        file.write_all(&block[..len])?;
        left -= len as u64;
    }
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn room_that_is_not_there_is_told() {
        let dir = tempfile::tempdir().unwrap();
        require_space(dir.path(), 1).unwrap();
        let error = require_space(dir.path(), u64::MAX).unwrap_err();
        assert!(matches!(error, StorageError::Full { .. }), "{error}");
        probe_space(dir.path(), 1 << 20, 1 << 20).unwrap();
        assert!(probe_space(&dir.path().join("nowhere"), 0, 1).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn noise_fills_a_file_from_an_offset_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("noise");
        write_noise(File::create(&path).unwrap(), 10, 100_000).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 100_010);
    }
}
