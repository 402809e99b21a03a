//! The number of durable batches, in a file beside sled's files.
//!
//! When sled opens a log, it takes the first damaged message for the end of the log, as after a
//! crash, and goes on from the state before it. So a flipped bit would silently remove everything
//! that was written later. To notice that, the totals in the log count every applied batch, and
//! every flush writes the count into this file. A log whose totals count fewer batches has lost
//! data.
//!
//! The watermark is written after the flush and, except on opening, not synced. So it is never ahead
//! of the log, and costs almost nothing. After a power failure it may be slightly behind.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use downbeat_storage::{Damage, StorageError};

use crate::record;
use crate::tree::LOG_FILE;

/// The name of the file.
pub(crate) const WATERMARK_FILE: &str = "mark";

/// The watermark is written into two slots in turn, so a torn write leaves the previous one. Each
/// slot has a disk sector of its own.
const SLOT_LEN: usize = 512;

/// The key in the checksum of a slot's record.
const SLOT_KEY: &[u8] = b"mark";

/// The prefix of a record, and a number of fixed length.
const RECORD_LEN: usize = record::PREFIX_LEN + 8;

/// The watermark of an open store.
#[derive(Debug)]
pub(crate) struct Watermark {
    file: File,
    path: PathBuf,
    slot: usize,
}

impl Watermark {
    /// Opens the watermark of a store whose log has this many durable batches. Fails if the
    /// watermark is higher. Creates a missing file: an operator who accepts a loss deletes it.
    pub(crate) fn open(dir: &Path, batches: u64) -> Result<Self, StorageError> {
        let path = dir.join(WATERMARK_FILE);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let error =
            |verb, error| StorageError::io(format!("cannot {verb} {}", path.display()), error);
        let mut file = file.map_err(|io| error("open", io))?;
        let marked = read(&mut file).map_err(|io| error("read", io))?;
        match marked {
            Content::Invalid => {
                let reason = "neither of its two records is valid";
                return Err(Damage::in_record(path.display().to_string(), reason).into());
            }
            Content::Batches(marked) if marked > batches => {
                let reason = format!(
                    "of {marked} batches only the first {batches} are left; restore the store from \
                     a backup, or delete {} to continue without the lost batches",
                    path.display()
                );
                let log = dir.join(LOG_FILE);
                return Err(Damage::in_record(log.display().to_string(), reason).into());
            }
            Content::Batches(_) | Content::Empty => {}
        }
        let mut watermark = Self { file, path, slot: 0 };
        // Both slots, so that the older one is not higher.
        watermark.write(batches)?;
        watermark.write(batches)?;
        // A power failure must not leave a file without any valid record.
        watermark.sync()?;
        Ok(watermark)
    }

    /// Writes the number of durable batches.
    pub(crate) fn write(&mut self, batches: u64) -> Result<(), StorageError> {
        let record = record::encode(SLOT_KEY, &batches.to_be_bytes(), 8);
        let writing = self
            .file
            .seek(SeekFrom::Start((self.slot * SLOT_LEN) as u64))
            .and_then(|_| self.file.write_all(&record));
        self.slot = 1 - self.slot;
        writing.map_err(|error| {
            StorageError::io(format!("cannot write {}", self.path.display()), error)
        })
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.file.sync_all().map_err(|error| {
            StorageError::io(format!("cannot sync {}", self.path.display()), error)
        })
    }
}

/// The watermark of a store, without opening it. `None` if it is missing or damaged.
pub(crate) fn marked(dir: &Path) -> Option<u64> {
    match read(&mut File::open(dir.join(WATERMARK_FILE)).ok()?).ok()? {
        Content::Batches(marked) => Some(marked),
        Content::Empty | Content::Invalid => None,
    }
}

/// The content of the file.
enum Content {
    /// The file is new.
    Empty,
    Batches(u64),
    Invalid,
}

fn read(file: &mut File) -> io::Result<Content> {
    let mut bytes = Vec::new();
    file.take(2 * SLOT_LEN as u64).read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        return Ok(Content::Empty);
    }
    let slots = [0, SLOT_LEN].map(|start| {
        let record = bytes.get(start..start + RECORD_LEN)?;
        record::decode(SLOT_KEY, record).ok().map(u64::from_be_bytes)
    });
    Ok(slots.into_iter().flatten().max().map_or(Content::Invalid, Content::Batches))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_behind_its_watermark_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut watermark = Watermark::open(dir.path(), 3).unwrap();
        watermark.write(4).unwrap();
        watermark.write(5).unwrap();
        drop(watermark);
        let error = Watermark::open(dir.path(), 4).unwrap_err();
        assert!(error.to_string().contains("of 5 batches only the first 4"), "{error}");
        Watermark::open(dir.path(), 5).unwrap();
        Watermark::open(dir.path(), 7).unwrap();
        assert!(Watermark::open(dir.path(), 6).is_err());
    }

    #[test]
    fn a_torn_write_leaves_the_watermark_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut watermark = Watermark::open(dir.path(), 3).unwrap();
        watermark.write(4).unwrap();
        watermark.write(5).unwrap();
        let path = dir.path().join(WATERMARK_FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[SLOT_LEN..].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        Watermark::open(dir.path(), 4).unwrap();
        bytes.fill(0);
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(Watermark::open(dir.path(), 9), Err(StorageError::Corrupt(_))));
    }

    #[test]
    fn a_deleted_watermark_is_created_again() {
        let dir = tempfile::tempdir().unwrap();
        drop(Watermark::open(dir.path(), 3).unwrap());
        std::fs::remove_file(dir.path().join(WATERMARK_FILE)).unwrap();
        Watermark::open(dir.path(), 1).unwrap();
        assert!(Watermark::open(dir.path(), 0).is_err());
    }
}
