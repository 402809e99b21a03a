//! The results of workloads.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The result of a workload. The names in JSON (by serde) are the same.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The name of the workload, with the sizes that distinguish variants.
    pub workload: String,
    /// The kind of operation: "CoValue", "edit", "delivery", "MB", "connection".
    pub unit: &'static str,
    /// The number of operations.
    pub operations: u64,
    /// The time from the start of the first operation to the end of the last.
    pub seconds: f64,
    /// Operations per second.
    pub per_second: f64,
    /// The latency of single operations, if the workload measures it.
    pub latency: Option<Latency>,
    /// For starts of a server: the time from the start of its process until it listens.
    pub listening: Option<Latency>,
    /// The number of failed operations. Only a storm continues after a failure.
    pub failed: u64,
    /// The first failure.
    pub first_failure: Option<String>,
    /// The costs of the server, if its process is known.
    pub server: Option<ServerCost>,
    /// Bytes of frames that the clients sent.
    pub sent_bytes: u64,
    /// Bytes of frames that the clients received.
    pub received_bytes: u64,
}

/// Percentiles of the latency, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The maximum.
    pub max: f64,
}

/// CPU time and memory of the server's process.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ServerCost {
    /// The CPU time of all threads during the workload, in seconds.
    pub cpu_seconds: f64,
    /// The CPU time per operation, in microseconds.
    pub cpu_per_operation: f64,
    /// The resident memory before the workload, in bytes.
    pub resident_before: u64,
    /// The resident memory after the workload, in bytes.
    pub resident_after: u64,
    /// The peak of the resident memory during the workload, in bytes.
    pub resident_peak: u64,
}

impl Latency {
    /// The percentiles of some latencies, or `None` without any.
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
