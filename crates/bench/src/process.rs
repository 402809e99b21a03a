//! CPU time and memory of the server's process (Linux).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use crate::error::BenchError;

/// The clock of `/proc/PID/stat`, which Linux fixes at 100 ticks per second.
const TICK: Duration = Duration::from_millis(10);

/// A process on this machine, for measuring its CPU time and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerProcess {
    pid: u32,
}

/// CPU time and memory of a process at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    /// The CPU time of all threads since the start of the process, in user space and in the kernel,
    /// in ticks of 10 ms.
    pub cpu: Duration,
    /// The CPU time of each current thread, in nanoseconds.
    threads: BTreeMap<u64, Duration>,
    /// The resident memory, in bytes.
    pub resident: u64,
    /// The peak of the resident memory since [`ServerProcess::reset_peak`].
    pub peak: u64,
}

impl Usage {
    /// The CPU time since an earlier sample. It is exact if no thread has ended since; for ended
    /// threads the kernel counts only whole ticks.
    pub(crate) fn cpu_since(&self, before: &Self) -> Duration {
        if self.threads.is_empty() || before.threads.keys().any(|id| !self.threads.contains_key(id))
        {
            return self.cpu.saturating_sub(before.cpu);
        }
        let since = |(id, time): (&u64, &Duration)| {
            time.saturating_sub(before.threads.get(id).copied().unwrap_or_default())
        };
        self.threads.iter().map(since).sum()
    }
}

impl ServerProcess {
    /// The process with this id, which must exist and be readable.
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
        Ok(Usage { cpu, threads: self.threads()?, resident, peak })
    }

    /// The CPU time of each thread; empty if the kernel does not provide it.
    fn threads(self) -> Result<BTreeMap<u64, Duration>, BenchError> {
        let failed = |source| BenchError::Process { pid: self.pid, source };
        let mut threads = BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid)).map_err(failed)? {
            let thread = thread.map_err(failed)?;
            let id = thread.file_name().to_str().and_then(|name| name.parse().ok());
            // The thread may have ended in the meantime.
            let schedstat = fs::read_to_string(thread.path().join("schedstat")).ok();
            if let (Some(id), Some(time)) = (id, schedstat.as_deref().and_then(thread_time)) {
                threads.insert(id, time);
            }
        }
        Ok(threads)
    }

    /// Resets the peak of the resident memory. Only the owner of the process may do so.
    pub(crate) fn reset_peak(self) -> Result<(), BenchError> {
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
            format!("/proc/{}/{file} has an unknown format", self.pid),
        );
        BenchError::Process { pid: self.pid, source }
    }
}

/// The 14th and 15th field of `/proc/PID/stat` (proc(5)). The second holds the program's name in
/// parentheses and may contain any character, so counting starts after it.
fn cpu_time(stat: &str) -> Option<Duration> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let kernel: u32 = fields.next()?.parse().ok()?;
    Some(TICK * user.checked_add(kernel)?)
}

/// The first field of `/proc/PID/task/TID/schedstat`: nanoseconds on a CPU.
fn thread_time(schedstat: &str) -> Option<Duration> {
    Some(Duration::from_nanos(schedstat.split_ascii_whitespace().next()?.parse().ok()?))
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
        let used = process.usage().unwrap().cpu_since(&before);
        assert!(used > Duration::ZERO && used < Duration::from_mins(10), "{used:?}");
    }

    #[test]
    fn time_is_exact_unless_a_thread_has_ended() {
        let usage = |millis, threads: &[(u64, u64)]| Usage {
            cpu: Duration::from_millis(millis),
            threads: threads
                .iter()
                .map(|(id, nanos)| (*id, Duration::from_nanos(*nanos)))
                .collect(),
            resident: 0,
            peak: 0,
        };
        let before = usage(20, &[(1, 500), (2, 700)]);
        let later = usage(30, &[(1, 600), (2, 700), (3, 50)]);
        assert_eq!(later.cpu_since(&before), Duration::from_nanos(150));
        assert_eq!(usage(30, &[(1, 600)]).cpu_since(&before), Duration::from_millis(10));
        assert_eq!(usage(30, &[]).cpu_since(&usage(20, &[])), Duration::from_millis(10));
        assert_eq!(thread_time("1234 5 6"), Some(Duration::from_nanos(1234)));
        assert_eq!(thread_time(""), None);
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
