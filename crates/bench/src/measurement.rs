//! The timed part of a workload.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::BenchError;
use crate::process::{ServerProcess, Usage};
use crate::report::{Latency, Report, ServerCost};
use crate::target::Target;

/// The bytes of frames that all clients of a workload send and receive.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traffic {
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
}

impl Traffic {
    pub(crate) fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The bytes sent and received.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }
}

/// A running measurement, with the counters at its start.
pub(crate) struct Measurement {
    process: Option<(ServerProcess, Usage)>,
    traffic: Traffic,
    before: (u64, u64),
    began: Instant,
    /// The time at which the clock was stopped. `None` while it runs.
    ended: Option<Instant>,
}

impl Measurement {
    /// Starts the clock. The server must be idle.
    pub(crate) fn start(target: &Target, traffic: &Traffic) -> Result<Self, BenchError> {
        let process = match target.process {
            Some(process) => {
                process.reset_peak()?;
                Some((process, process.usage()?))
            }
            None => None,
        };
        let before = traffic.so_far();
        Ok(Self { process, traffic: traffic.clone(), before, began: Instant::now(), ended: None })
    }

    /// Stops the clock after the last operation. CPU time and memory are counted until the end.
    pub(crate) fn stop_clock(&mut self) {
        self.ended = Some(Instant::now());
    }

    /// Stops the clock if it is running, and computes the costs.
    pub(crate) fn finish(
        self,
        workload: String,
        unit: &'static str,
        operations: u64,
        latencies: Vec<Duration>,
    ) -> Result<Report, BenchError> {
        let ended = self.ended.unwrap_or_else(Instant::now);
        let seconds = ended.duration_since(self.began).as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "counts of operations are far below 2^52")]
        let count = operations.max(1) as f64;
        let server = match self.process {
            Some((process, before)) => {
                let after = process.usage()?;
                let cpu_seconds = after.cpu_since(&before).as_secs_f64();
                Some(ServerCost {
                    cpu_seconds,
                    cpu_per_operation: cpu_seconds / count * 1e6,
                    resident_before: before.resident,
                    resident_after: after.resident,
                    resident_peak: after.peak,
                })
            }
            None => None,
        };
        let (sent, received) = self.traffic.so_far();
        Ok(Report {
            workload,
            unit,
            operations,
            seconds,
            per_second: count / seconds,
            latency: Latency::of(latencies),
            listening: None,
            failed: 0,
            first_failure: None,
            server,
            sent_bytes: sent - self.before.0,
            received_bytes: received - self.before.1,
        })
    }
}
