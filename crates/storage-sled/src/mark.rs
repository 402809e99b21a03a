//! A mark of how far the store has got, beside sled's files.
//!
//! When sled opens a log it takes the first message that is damaged for the end of the log, as if a
//! crash had torn it off there, and goes on from the state before it: a flipped bit would take all
//! that was written later with it, and nobody would know. So every batch that is applied is
//! counted in the totals, which lie in the log, and every flush notes the count here. A log whose
//! totals count less than that has lost batches.
//!
//! The mark is written after the flush and not synced, so it is never ahead of the log, and costs
//! next to nothing; after a power failure it may be a little behind.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use downbeat_storage::{Damage, StorageError};

use crate::record;
use crate::tree::LOG_FILE;

/// The file.
pub(crate) const MARK_FILE: &str = "mark";

/// The mark is written into two slots in turn, so that a torn write leaves the one before. Each has
/// a disk sector of its own.
const SLOT_LEN: usize = 512;

/// What stands for a key in the checksum of a slot's record.
const SLOT_KEY: &[u8] = b"mark";

/// A record's prefix, and a number of fixed length.
const RECORD_LEN: usize = record::PREFIX_LEN + 8;

/// The mark of an open store.
#[derive(Debug)]
pub(crate) struct Mark {
    file: File,
    path: PathBuf,
    slot: usize,
}

impl Mark {
    /// Opens the mark of a store whose log counts this many batches, all of them durable. Fails if
    /// the mark says that there were more. A mark that is missing is made anew: whoever has
    /// accepted a loss deletes the file.
    pub(crate) fn open(dir: &Path, batches: u64) -> Result<Self, StorageError> {
        let path = dir.join(MARK_FILE);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let error =
            |verb, error| StorageError::io(format!("cannot {verb} {}", path.display()), error);
        let mut file = file.map_err(|io| error("open", io))?;
        let marked = read(&mut file).map_err(|io| error("read", io))?;
        match marked {
            Marked::Invalid => {
                let reason = "neither of its two records is valid";
                return Err(Damage::in_record(path.display().to_string(), reason).into());
            }
            Marked::Batches(marked) if marked > batches => {
                let reason = format!(
                    "of {marked} batches only the first {batches} are left; restore the store from \
                     a backup, or delete {} to go on with what there is",
                    path.display()
                );
                let log = dir.join(LOG_FILE);
                return Err(Damage::in_record(log.display().to_string(), reason).into());
            }
            Marked::Batches(_) | Marked::Nothing => {}
        }
        let mut mark = Self { file, path, slot: 0 };
        // Both slots, so that the older one is never ahead.
        mark.write(batches)?;
        mark.write(batches)?;
        Ok(mark)
    }

    /// Notes that so many batches are durable.
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
}

/// What a mark says.
enum Marked {
    /// The file is new.
    Nothing,
    Batches(u64),
    Invalid,
}

fn read(file: &mut File) -> io::Result<Marked> {
    let mut bytes = Vec::new();
    file.take(2 * SLOT_LEN as u64).read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        return Ok(Marked::Nothing);
    }
    let slots = [0, SLOT_LEN].map(|start| {
        let record = bytes.get(start..start + RECORD_LEN)?;
        record::decode(SLOT_KEY, record).ok().map(u64::from_be_bytes)
    });
    Ok(slots.into_iter().flatten().max().map_or(Marked::Invalid, Marked::Batches))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_behind_its_mark_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut mark = Mark::open(dir.path(), 3).unwrap();
        mark.write(4).unwrap();
        mark.write(5).unwrap();
        drop(mark);
        let error = Mark::open(dir.path(), 4).unwrap_err();
        assert!(error.to_string().contains("of 5 batches only the first 4"), "{error}");
        Mark::open(dir.path(), 5).unwrap();
        Mark::open(dir.path(), 7).unwrap();
        assert!(Mark::open(dir.path(), 6).is_err());
    }

    #[test]
    fn a_torn_write_leaves_the_mark_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut mark = Mark::open(dir.path(), 3).unwrap();
        mark.write(4).unwrap();
        mark.write(5).unwrap();
        let path = dir.path().join(MARK_FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[SLOT_LEN..].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        Mark::open(dir.path(), 4).unwrap();
        bytes.fill(0);
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(Mark::open(dir.path(), 9), Err(StorageError::Corrupt(_))));
    }

    #[test]
    fn a_mark_that_was_deleted_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        drop(Mark::open(dir.path(), 3).unwrap());
        std::fs::remove_file(dir.path().join(MARK_FILE)).unwrap();
        Mark::open(dir.path(), 1).unwrap();
        assert!(Mark::open(dir.path(), 0).is_err());
    }
}
