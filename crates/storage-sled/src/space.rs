//! The disk space that a store needs.
//!
//! sled stops writing for good at its first error, and writes when it opens a log. So a batch is
//! refused before the disk is full, and a reserve lets the store be opened on a full disk.

use std::fs;
use std::path::Path;

use downbeat_storage::StorageError;
use downbeat_storage::files::{SpaceReserve, probe_space, require_file_length, require_space};

use crate::open::SEGMENT_SIZE;
use crate::tree::LOG_FILE;

/// The file that reserves space for opening.
pub(crate) const RESERVE_FILE: &str = "reserve";

/// Free space required besides the space of a batch: some segments of the log. sled moves pages in
/// the background, and into new segments when it has no old ones.
const MARGIN: u64 = 4 * SEGMENT_SIZE as u64;

/// Bytes of the log for each byte that is written. sled sometimes rewrites whole pages, and moves
/// pages of old segments on the way.
const WRITE_AMPLIFICATION: u64 = 6;

/// Opening writes a snapshot of the page table, which is much smaller than this part of the log.
const SNAPSHOT_PART: u64 = 32;

/// The reserve of a store.
pub(crate) fn reserve(dir: &Path) -> SpaceReserve {
    SpaceReserve::new(dir.join(RESERVE_FILE))
}

/// Completes the reserve if there is space for it.
pub(crate) fn keep_reserve(reserve: &mut SpaceReserve, dir: &Path) {
    reserve.keep(opening_bytes(dir), MARGIN);
}

/// Checks that a batch with this many bytes of content can be written.
pub(crate) fn require_for_batch(dir: &Path, bytes: u64) -> Result<(), StorageError> {
    let needed = MARGIN + bytes.saturating_mul(WRITE_AMPLIFICATION);
    require_file_length(&dir.join(LOG_FILE), log_len(dir) + needed)?;
    require_space(dir, needed)
}

/// Checks that the store could be opened again, which writes at the end of the log.
pub(crate) fn require_for_opening(dir: &Path) -> Result<(), StorageError> {
    probe_space(dir, log_len(dir), opening_bytes(dir))
}

/// The most that opening a store writes: the rest of a segment, and a snapshot.
fn opening_bytes(dir: &Path) -> u64 {
    2 * SEGMENT_SIZE as u64 + log_len(dir) / SNAPSHOT_PART
}

/// The length of the log; 0 if there is none.
pub(crate) fn log_len(dir: &Path) -> u64 {
    fs::metadata(dir.join(LOG_FILE)).map_or(0, |metadata| metadata.len())
}
