//! Peak memory of decoding.

use std::sync::atomic::{AtomicBool, Ordering};

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Whether the peak is checked, which is useful only if no other thread allocates.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// The limit on the peak for each byte of the input. The shortest inputs with an allocation are a
/// line `0` of a frame (2 bytes), which becomes an error of about 70 bytes, and a malformed session
/// `"":0` (5 bytes), which becomes an entry of about 300 bytes. Their lists double when they grow,
/// so three times as much is in use for a moment.
const PER_BYTE: usize = 256;

/// The part of the limit that does not depend on the length of the input.
const AT_LEAST: usize = 64 * 1024;

/// Makes [`bounded`] check the peak. Call it only if a single thread allocates.
pub fn watch() {
    WATCHED.store(true, Ordering::Relaxed);
}

/// Runs `work` on an input of this length, and panics if its peak memory exceeds the limit.
pub fn bounded<T>(input_len: usize, work: impl FnOnce() -> T) -> T {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let result = work();
    let taken = ALLOCATOR.peak_usage().saturating_sub(before);
    let limit = AT_LEAST + input_len.saturating_mul(PER_BYTE);
    let is_fine = taken <= limit || !WATCHED.load(Ordering::Relaxed);
    assert!(is_fine, "{taken} bytes of memory for an input of {input_len}");
    result
}
