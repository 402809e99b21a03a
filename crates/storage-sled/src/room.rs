//! The room that a store needs on its file system.
//!
//! sled stops writing for good at its first error, and writes when it opens a log. So a batch is
//! refused before the disk is full, and a reserve lets the store be opened all the same.

use std::fs;
use std::path::Path;

use downbeat_storage::StorageError;
use downbeat_storage::files::{Reserve, require_length, require_room, try_room};

use crate::place::SEGMENT_SIZE;
use crate::tree::LOG_FILE;

/// The file that takes up the room for opening.
pub(crate) const RESERVE_FILE: &str = "reserve";

/// What must be free besides what a batch needs: some segments of the log, because sled moves pages
/// in the background, and into new segments when it has no old ones.
const MARGIN: u64 = 4 * SEGMENT_SIZE as u64;

/// Bytes of the log for each byte that is written: pages are written anew as a whole now and then,
/// and pages of old segments on the way.
const BYTES_WRITTEN_FOR_EACH: u64 = 6;

/// Opening writes a snapshot of the page table, which is much smaller than this part of the log.
const SNAPSHOT_PART: u64 = 32;

/// The reserve of a store.
pub(crate) fn reserve(dir: &Path) -> Reserve {
    Reserve::new(dir.join(RESERVE_FILE))
}

/// Makes the reserve if it is missing and there is room.
pub(crate) fn keep_reserve(reserve: &mut Reserve, dir: &Path) {
    reserve.keep(opening_bytes(dir), MARGIN);
}

/// Checks that a batch with so many bytes of content can be written.
pub(crate) fn require_for_batch(dir: &Path, bytes: u64) -> Result<(), StorageError> {
    let needed = MARGIN + bytes.saturating_mul(BYTES_WRITTEN_FOR_EACH);
    require_length(&dir.join(LOG_FILE), log_len(dir) + needed)?;
    require_room(dir, needed)
}

/// Checks that the store could be opened again, which takes writing at the end of the log.
pub(crate) fn require_for_opening(dir: &Path) -> Result<(), StorageError> {
    try_room(dir, log_len(dir), opening_bytes(dir))
}

/// What opening a store writes at most: the rest of a segment, and a snapshot.
fn opening_bytes(dir: &Path) -> u64 {
    2 * SEGMENT_SIZE as u64 + log_len(dir) / SNAPSHOT_PART
}

fn log_len(dir: &Path) -> u64 {
    fs::metadata(dir.join(LOG_FILE)).map_or(0, |metadata| metadata.len())
}
