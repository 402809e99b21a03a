//! What backends that keep files ask of the file system: whether a file is still in its place, how
//! much room there is, and a reserve of room for opening a store on a full disk.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::StorageError;

/// How long to wait before a reserve that could not be made is tried again.
const RESERVE_RETRY: Duration = Duration::from_mins(1);

/// The file of [`try_room`].
const ROOM_FILE: &str = "room.tmp";

/// Room below which an error while a store is opened is put down to the lack of room: some systems
/// and libraries do not say so.
const HARDLY_ANY_ROOM: u64 = 1 << 20;

/// A file that is open, and the path at which it was opened.
///
/// An open file stays usable when its name is gone. What is written to it then cannot be found
/// again, so backends check the name before they acknowledge anything. The backend must keep the
/// file open: the system may give the number of a file that nobody has open to another one.
#[derive(Debug, Clone)]
pub struct Place {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Place {
    /// The place of a file that has just been opened.
    ///
    /// # Errors
    ///
    /// [`StorageError::Gone`] if there is nothing, and [`StorageError::Io`] if the system does not
    /// tell.
    pub fn of(path: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let path = path.into();
        let identity = identity(&look(&path)?);
        Ok(Self { path, identity })
    }

    /// Checks that the file is still there. Takes one call to the system, about a microsecond on a
    /// local disk. Where files have no numbers (outside Unix), another file in the same place is
    /// not noticed.
    ///
    /// # Errors
    ///
    /// [`StorageError::Gone`] if it is not, and [`StorageError::Io`] if the system does not tell.
    pub fn check(&self) -> Result<(), StorageError> {
        if identity(&look(&self.path)?) == self.identity {
            return Ok(());
        }
        Err(self.gone("another file is in its place"))
    }

    fn gone(&self, reason: &str) -> StorageError {
        StorageError::Gone { path: self.path.clone(), reason: reason.to_owned() }
    }
}

fn look(path: &Path) -> Result<Metadata, StorageError> {
    fs::metadata(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            let reason = "it was deleted or moved away".to_owned();
            StorageError::Gone { path: path.to_owned(), reason }
        }
        _ => StorageError::io(format!("cannot look for {}", path.display()), error),
    })
}

/// The numbers of the device and of the file.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems have none")]
fn identity(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Option<(u64, u64)> {
    None
}

/// Checks that the file system of a directory has so much room for this program.
///
/// Quotas of users and limits on the length of files do not show here, and another program may take
/// the room at any time. Outside Unix there is always room.
///
/// # Errors
///
/// [`StorageError::Full`] if there is less, and [`StorageError::Io`] if the system does not tell.
pub fn require_room(dir: &Path, bytes: u64) -> Result<(), StorageError> {
    let free = free_bytes(dir).map_err(|error| {
        StorageError::io(format!("cannot tell how much room {} has", dir.display()), error)
    })?;
    match free {
        Some(free) if free < bytes => {
            let action = format!(
                "{} has {} KiB of room, and writing safely takes {} KiB",
                dir.display(),
                free >> 10,
                bytes >> 10
            );
            Err(StorageError::Full {
                action,
                source: io::Error::from(ErrorKind::StorageFull).into(),
            })
        }
        _ => Ok(()),
    }
}

/// Checks that this process may write files of this length (`RLIMIT_FSIZE`).
///
/// # Errors
///
/// [`StorageError::Io`] if it may not.
pub fn require_length(file: &Path, bytes: u64) -> Result<(), StorageError> {
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

#[cfg(unix)]
fn length_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

#[cfg(not(unix))]
fn length_limit() -> Option<u64> {
    None
}

#[cfg(unix)]
fn free_bytes(dir: &Path) -> io::Result<Option<u64>> {
    let about = rustix::fs::statvfs(dir)?;
    // A file system that does not know its size knows nothing of its room either.
    Ok((about.f_blocks > 0).then(|| about.f_bavail.saturating_mul(about.f_frsize)))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "other systems may fail")]
fn free_bytes(_: &Path) -> io::Result<Option<u64>> {
    Ok(None)
}

/// Checks that so many bytes can be written into a file in a directory from an offset on, by
/// making such a file and removing it. Finds what [`require_room`] does not: quotas and limits on
/// the length of files.
///
/// # Errors
///
/// What the system says.
pub fn try_room(dir: &Path, offset: u64, bytes: u64) -> Result<(), StorageError> {
    let path = dir.join(ROOM_FILE);
    let result = fill(&path, offset, bytes);
    let removed = fs::remove_file(&path);
    let error = |error| StorageError::io(format!("cannot write to {}", path.display()), error);
    result.map_err(error)?;
    removed.map_err(error)
}

/// A file that takes up room next to a store. It is given up when the store cannot be opened
/// because the disk is full, and made again when there is room.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    dir: PathBuf,
    tried: Option<Instant>,
    complete: bool,
}

impl Reserve {
    /// The reserve at this path, which may have been made or not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let dir = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Self { path, dir, tried: None, complete: false }
    }

    /// Opens a store, a second time without the reserve if the disk is full.
    ///
    /// # Errors
    ///
    /// What `open` says.
    pub fn open_with<T>(
        &mut self,
        mut open: impl FnMut() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        // What a crash has left of an attempt.
        let _ = fs::remove_file(self.dir.join(ROOM_FILE));
        match open() {
            Err(StorageError::Full { .. }) if self.give_up() => {}
            Err(StorageError::Io { .. }) if self.has_hardly_any_room() && self.give_up() => {}
            other => return other,
        }
        let opened = open();
        // What is left of it is kept for the next time.
        self.tried = None;
        opened
    }

    fn has_hardly_any_room(&self) -> bool {
        matches!(free_bytes(&self.dir), Ok(Some(free)) if free < HARDLY_ANY_ROOM)
    }

    /// Removes the reserve, and tells whether there was one. It is not made again until there is
    /// enough room for all of it.
    pub fn give_up(&mut self) -> bool {
        if fs::remove_file(&self.path).is_err() {
            return false;
        }
        self.complete = false;
        self.tried = Some(Instant::now());
        true
    }

    /// Makes the reserve so large if it is not, at most once a minute. With `margin` more room it
    /// is made in full. With less, a reserve that has been given up takes what is left, so that the
    /// store can be opened the next time as well.
    pub fn keep(&mut self, bytes: u64, margin: u64) {
        if self.complete || self.tried.is_some_and(|tried| tried.elapsed() < RESERVE_RETRY) {
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
            self.drop_what_is_not_there();
        }
    }

    /// When [`Self::keep`] is due again, if the reserve is not complete.
    pub fn retry_at(&self) -> Option<Instant> {
        self.tried.filter(|_| !self.complete).map(|tried| tried + RESERVE_RETRY)
    }

    /// A reserve that could be filled only in part must not say that it is longer.
    fn drop_what_is_not_there(&self) {
        let Ok(metadata) = fs::metadata(&self.path) else { return };
        let there = allocated_bytes(&metadata);
        if there < metadata.len() {
            let file = OpenOptions::new().write(true).open(&self.path);
            let _ = file.and_then(|file| file.set_len(there));
        }
    }
}

#[cfg(unix)]
fn allocated_bytes(metadata: &Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    metadata.blocks() * 512
}

#[cfg(not(unix))]
fn allocated_bytes(metadata: &Metadata) -> u64 {
    metadata.len()
}

/// Gives a file room for so many bytes from an offset on.
fn fill(path: &Path, offset: u64, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    if allocate(&file, offset, bytes)? {
        return Ok(());
    }
    write_noise(file, offset, bytes)
}

/// `false` if the file system cannot do that.
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

/// Writes what no file system compresses.
fn write_noise(mut file: File, offset: u64, bytes: u64) -> io::Result<()> {
    use std::io::{Seek as _, SeekFrom, Write as _};
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // Xorshift: any pattern without repetitions does.
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

    fn full() -> StorageError {
        StorageError::io("cannot write", ErrorKind::StorageFull.into())
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_in_its_place_until_it_is_moved_deleted_or_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (path, away) = (dir.path().join("file"), dir.path().join("away"));
        let _open = File::create(&path).unwrap();
        let place = Place::of(&path).unwrap();
        place.check().unwrap();
        fs::rename(&path, &away).unwrap();
        assert!(matches!(place.check(), Err(StorageError::Gone { .. })));
        fs::write(&path, "another").unwrap();
        let error = place.check().unwrap_err();
        assert!(error.to_string().contains("another file"), "{error}");
        fs::rename(&away, &path).unwrap();
        place.check().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(matches!(place.check(), Err(StorageError::Gone { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn room_that_is_not_there_is_told() {
        let dir = tempfile::tempdir().unwrap();
        require_room(dir.path(), 1).unwrap();
        let error = require_room(dir.path(), u64::MAX).unwrap_err();
        assert!(matches!(error, StorageError::Full { .. }), "{error}");
        try_room(dir.path(), 1 << 20, 1 << 20).unwrap();
        assert!(try_room(&dir.path().join("nowhere"), 0, 1).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_reserve_is_given_up_for_opening_on_a_full_disk_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let mut reserve = Reserve::new(&path);
        reserve.keep(1 << 20, 0);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.len(), 1 << 20);
        assert!(allocated_bytes(&metadata) >= 1 << 20, "a sparse file reserves nothing");
        assert_eq!(reserve.retry_at(), None);

        let mut tries = 0;
        let opened = Reserve::new(&path).open_with(|| {
            tries += 1;
            if path.exists() { Err(full()) } else { Ok(tries) }
        });
        assert_eq!(opened.unwrap(), 2);
        let mut reserve = Reserve::new(&path);
        let error = reserve.open_with(|| Err::<(), _>(full())).unwrap_err();
        assert!(matches!(error, StorageError::Full { .. }), "without a reserve it fails: {error}");
        reserve.keep(1 << 20, 0);
        assert!(path.exists());
    }

    #[test]
    fn a_reserve_is_not_given_up_for_other_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let mut reserve = Reserve::new(&path);
        reserve.keep(1 << 20, 0);
        assert!(reserve.open_with(|| Err::<(), _>(StorageError::Closed)).is_err());
        assert!(path.exists());
    }

    #[test]
    fn noise_fills_a_file_from_an_offset_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("noise");
        write_noise(File::create(&path).unwrap(), 10, 100_000).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 100_010);
    }
}
