//! Figures of this process from `/proc`; `None` on systems without it.

use std::fs;

/// Resident memory of the process, in bytes.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Files and sockets that the process has open.
pub(crate) fn open_files() -> Option<u64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of the entries is the open directory itself.
    u64::try_from(count).ok()?.checked_sub(1)
}
