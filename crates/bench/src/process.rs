//! The server's process as the operating system sees it (Linux).

use std::fs;
use std::io;
use std::time::Duration;

use crate::error::BenchError;

/// The clock of `/proc/PID/stat`: Linux fixes it at 100 ticks a second for what user space sees.
const TICK: Duration = Duration::from_millis(10);

/// A process on this machine whose CPU time and memory are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerProcess {
    pid: u32,
}

/// CPU time and memory of a process at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Time on a CPU of all threads since the process was started, in user space and in the kernel.
    pub cpu: Duration,
    /// Resident memory now, in bytes.
    pub resident: u64,
    /// The most that was resident since [`ServerProcess::forget_peak`].
    pub peak: u64,
}

impl ServerProcess {
    /// The process with this id, which must be there and readable.
    pub fn new(pid: u32) -> Result<Self, BenchError> {
        let process = Self { pid };
        process.usage()?;
        Ok(process)
    }

    /// The process id.
    pub fn pid(self) -> u32 {
        self.pid
    }

    pub(crate) fn usage(self) -> Result<Usage, BenchError> {
        let stat = self.read("stat")?;
        let status = self.read("status")?;
        let cpu = cpu_time(&stat).ok_or_else(|| self.unreadable("stat"))?;
        let kilobytes = |name| field(&status, name).ok_or_else(|| self.unreadable("status"));
        let resident = kilobytes("VmRSS:")? << 10;
        let peak = kilobytes("VmHWM:")? << 10;
        Ok(Usage { cpu, resident, peak })
    }

    /// Counts the most resident memory from now on. The kernel allows it to the process's owner.
    pub(crate) fn forget_peak(self) -> Result<(), BenchError> {
        fs::write(format!("/proc/{}/clear_refs", self.pid), "5")
            .map_err(|source| BenchError::Process { pid: self.pid, source })
    }

    fn read(self, name: &str) -> Result<String, BenchError> {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid))
            .map_err(|source| BenchError::Process { pid: self.pid, source })
    }

    fn unreadable(self, file: &str) -> BenchError {
        let source = io::Error::new(
            io::ErrorKind::InvalidData,
            format!("/proc/{}/{file} is not as expected", self.pid),
        );
        BenchError::Process { pid: self.pid, source }
    }
}

/// The 14th and 15th field of `/proc/PID/stat` (proc(5)). The second holds the program's name in
/// parentheses and may contain anything, so counting begins behind it.
fn cpu_time(stat: &str) -> Option<Duration> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let kernel: u32 = fields.next()?.parse().ok()?;
    Some(TICK * user.checked_add(kernel)?)
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_uses_the_cpu() {
        let process = ServerProcess::new(std::process::id()).unwrap();
        let before = process.usage().unwrap();
        assert!(before.resident > 0 && before.peak >= before.resident / 2, "{before:?}");
        while process.usage().unwrap().cpu <= before.cpu {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu_time("7 (cut"), None);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        let error = ServerProcess::new(u32::MAX).unwrap_err();
        assert!(error.to_string().contains(&u32::MAX.to_string()), "{error}");
    }
}
