//! Memory of the server's process, and the size of its files (Linux).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

/// The unit of the block count of a file (stat(2)).
const BLOCK: u64 = 512;

/// Resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// The peak since [`reset_peak`].
    pub(crate) peak: u64,
}

pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number =
            line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
        number.with_context(|| format!("{path} has no {name}"))
    };
    Ok(Memory { resident: kilobytes("VmRSS:")? << 10, peak: kilobytes("VmHWM:")? << 10 })
}

/// Resets the peak of the resident memory.
pub(crate) fn reset_peak(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "5").with_context(|| format!("cannot write {path}"))
}

/// The bytes that all files below a directory occupy.
pub(crate) fn disk(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        // A file of the store may be gone by now.
        let Ok(metadata) = path.symlink_metadata() else { continue };
        bytes += if metadata.is_dir() { disk(&path)? } else { metadata.blocks() * BLOCK };
    }
    Ok(bytes)
}
