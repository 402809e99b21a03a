//! What a workload has measured.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What a workload has measured. As JSON (by serde) it has the same names.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The workload's name, with its sizes where they change what it is.
    pub workload: String,
    /// What one operation is: "CoValue", "edit", "delivery", "MB", "connection".
    pub unit: &'static str,
    /// How many were done.
    pub operations: u64,
    /// From the first that was begun to the last that was done.
    pub seconds: f64,
    /// Operations a second.
    pub per_second: f64,
    /// How long single operations took, where that is meant.
    pub latency: Option<Latency>,
    /// Of starts of a server: how long from the start of its process until it said where it listens.
    pub listening: Option<Latency>,
    /// Operations that were tried and failed; only a storm goes on after one.
    pub failed: u64,
    /// Why the first of those failed.
    pub first_failure: Option<String>,
    /// What the server spent, if its process is known.
    pub server: Option<ServerCost>,
    /// Bytes of frames that the clients sent in that time.
    pub sent_bytes: u64,
    /// Bytes of frames that the clients received.
    pub received_bytes: u64,
}

/// Percentiles of how long operations took, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// Nine in ten took less.
    pub p90: f64,
    /// 99 in 100 took less.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// CPU time and memory of the server's process.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ServerCost {
    /// CPU time of all its threads during the workload, in seconds.
    pub cpu_seconds: f64,
    /// The same for one operation, in microseconds.
    pub cpu_per_operation: f64,
    /// Resident memory before the workload, in bytes.
    pub resident_before: u64,
    /// Resident memory after it.
    pub resident_after: u64,
    /// The most that was resident during the workload.
    pub resident_peak: u64,
}

impl Latency {
    /// The percentiles of some times; `None` of none.
    pub(crate) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        let at = |percent: usize| times[(last * percent).div_ceil(100)].as_secs_f64() * 1e3;
        Some(Self { p50: at(50), p90: at(90), p99: at(99), max: at(100) })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.workload)?;
        writeln!(
            f,
            "  {} x {} in {:.3} s: {:.0} a second",
            self.operations, self.unit, self.seconds, self.per_second
        )?;
        if let Some(failure) = &self.first_failure {
            writeln!(f, "  {} failed, the first: {failure}", self.failed)?;
        }
        if let Some(Latency { p50, p90, p99, max }) = self.latency {
            writeln!(
                f,
                "  latency: median {p50:.3} ms, 90 % {p90:.3} ms, 99 % {p99:.3} ms, longest {max:.3} ms"
            )?;
        }
        if let Some(Latency { p50, max, .. }) = self.listening {
            writeln!(f, "  listening: median after {p50:.3} ms, longest {max:.3} ms")?;
        }
        if let Some(server) = &self.server {
            writeln!(
                f,
                "  server: {:.2} s of CPU, {:.1} us per {}; {} resident before, {} after, {} at most",
                server.cpu_seconds,
                server.cpu_per_operation,
                self.unit,
                megabytes(server.resident_before),
                megabytes(server.resident_after),
                megabytes(server.resident_peak),
            )?;
        }
        writeln!(
            f,
            "  {} sent, {} received",
            megabytes(self.sent_bytes),
            megabytes(self.received_bytes)
        )
    }
}

#[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times = (1..=100).rev().map(Duration::from_millis).collect();
        let Latency { p50, p90, p99, max } = Latency::of(times).unwrap();
        assert_eq!(format!("{p50:.0} {p90:.0} {p99:.0} {max:.0}"), "51 91 100 100");
        assert!(Latency::of(Vec::new()).is_none());
    }
}
