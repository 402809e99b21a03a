//! The `downbeat` binary. Its code is in `downbeat-cli`.

use std::process::ExitCode;

/// Returns unused memory to the system within seconds. The allocator of glibc keeps what lies
/// between small blocks in use, so the memory of a burst of work stays with the process.
/// `docs/performance.md` compares allocators.
#[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    downbeat_cli::main()
}
