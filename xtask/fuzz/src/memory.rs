//! How much memory something takes at its peak.

use std::sync::atomic::{AtomicBool, Ordering};

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Whether the peak means anything: only where no other thread allocates.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// What decoding may take at its peak for each byte of the input. The shortest things that take
/// room of their own are a line `0` of a frame (2 bytes) and a malformed session `"":0` (5 bytes);
/// they become an error of about 70 and an entry of about 300 bytes, in lists that double when
/// they grow, so that three times as much is in use for a moment.
const PER_BYTE: usize = 256;

/// What decoding may take for an input of any length.
const AT_LEAST: usize = 64 * 1024;

/// Has [`bounded`] check from now on. To be called where only one thread allocates.
pub fn watch() {
    WATCHED.store(true, Ordering::Relaxed);
}

/// Does something with an input of so many bytes, and panics if it takes an outrageous amount of
/// memory for that.
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
