//! The bounds that an attacked server keeps.

use crate::ground::OwnBounds;
use crate::honest::Phase;
use crate::latency::Latency;
use crate::report::{Report, mib};

/// The 99th percentile of the honest client's writes and loads, in milliseconds.
const P99: f64 = 250.0;

/// The longest write or load, in milliseconds.
const MAX: f64 = 1_000.0;

/// The 99th percentile on an idle machine is below this, in milliseconds. If the undisturbed one is
/// above, the machine is busy with other work.
const UNDISTURBED_P99: f64 = 25.0;

/// A busy machine may lengthen the limits of time by this factor at most.
const MAX_BUSY: f64 = 4.0;

/// Files may grow by this multiple of the stored bytes: indexes, and the log of the store before it
/// is compacted.
const DISK_FACTOR: u64 = 2;

/// Files may grow by this without stored bytes: the honest client's content, and segments that the
/// store allocates in advance.
const DISK_SLACK: u64 = 64 << 20;

/// The time limits of an orderly stop (`--drain-time`, acknowledgements and goodbyes) together, and
/// 5 s to close the store, in seconds.
const STOP_SECONDS: f64 = 30.0;

/// Lines in the log: some for each connection, and some for each kind of refusal.
const LOG_LINES: usize = 3_000;

/// Bytes in the log.
const LOG_BYTES: usize = 1 << 20;

/// The factor for limits of time: how much slower the machine is than an idle one.
fn busy(undisturbed: Phase, afterwards: Phase) -> f64 {
    let p99 = |phase: Phase| phase.writes.p99.max(phase.loads.p99);
    (p99(undisturbed).max(p99(afterwards)) / UNDISTURBED_P99).clamp(1.0, MAX_BUSY)
}

/// The bounds that the measurements exceed. `tolerance` lengthens the limits of time, for debug
/// builds.
pub(crate) fn failures(report: &Report, own: OwnBounds, tolerance: f64) -> Vec<String> {
    let mut failures = Vec::new();
    let mut check = |holds: bool, text: String| {
        if !holds {
            failures.push(text);
        }
    };
    let factor = busy(report.undisturbed, report.afterwards) * tolerance;
    let times = [("writes", report.attacked.writes), ("loads", report.attacked.loads)];
    for (name, Latency { p99, max, count, .. }) in times {
        check(count > 0, format!("the honest client had no {name}"));
        let (p99_limit, max_limit) = (P99 * factor, MAX * factor);
        check(
            p99 <= p99_limit,
            format!("honest {name}: p99 {p99:.0} ms is above {p99_limit:.0} ms"),
        );
        check(
            max <= max_limit,
            format!("honest {name}: one took {max:.0} ms, above {max_limit:.0} ms"),
        );
    }
    if let Some(limit) = own.p50 {
        let (p50, limit) = (report.attacked.writes.p50, limit.as_secs_f64() * 1e3 * factor);
        check(p50 <= limit, format!("honest writes: p50 {p50:.0} ms is above {limit:.0} ms"));
    }
    let memory = report.memory;
    let limit = 2 * report.memory_budget;
    check(
        memory.peak <= limit,
        format!("resident memory {} is above twice the budget, {}", mib(memory.peak), mib(limit)),
    );
    if let Some(limit) = own.final_memory {
        check(
            memory.after <= limit,
            format!(
                "resident memory after the attack {} is above {}",
                mib(memory.after),
                mib(limit)
            ),
        );
    }
    let limit = DISK_FACTOR * report.storable + DISK_SLACK;
    check(
        report.disk_grown <= limit,
        format!("the files grew by {}, above {}", mib(report.disk_grown), mib(limit)),
    );
    if let Some(limit) = own.received {
        let received = report.sent.received;
        check(
            received <= limit,
            format!("the answers took {}, above {}", mib(received), mib(limit)),
        );
    }
    match report.stop_seconds {
        None => check(false, "the server did not stop in order".to_owned()),
        Some(seconds) => check(
            seconds <= STOP_SECONDS,
            format!("the server took {seconds:.1} s to stop, above {STOP_SECONDS} s"),
        ),
    }
    let log = &report.log;
    check(log.lines <= LOG_LINES, format!("{} log lines are above {LOG_LINES}", log.lines));
    check(log.bytes <= LOG_BYTES, format!("{} log bytes are above {LOG_BYTES}", log.bytes));
    check(log.forged.is_none(), format!("forged line in the log: {:?}", log.forged));
    check(log.panic.is_none(), format!("a panic: {:?}", log.panic));
    failures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Log, Memory};

    fn good() -> Report {
        let latency = Latency { count: 100, p50: 2.0, p99: 20.0, max: 200.0 };
        let phase = Phase { writes: latency, loads: latency };
        Report {
            memory_budget: 128 << 20,
            undisturbed: phase,
            attacked: phase,
            afterwards: phase,
            memory: Memory { before: 1, peak: 256 << 20, after: 1 },
            stop_seconds: Some(1.0),
            ..Report::default()
        }
    }

    #[test]
    fn each_bound_is_checked() {
        assert_eq!(failures(&good(), OwnBounds::default(), 1.0), Vec::<String>::new());
        let spoils: [fn(&mut Report); 9] = [
            |report| report.attacked.writes.p99 = 251.0,
            |report| report.attacked.loads.max = 1_001.0,
            |report| report.attacked.loads.count = 0,
            |report| report.memory.peak += 1,
            |report| report.disk_grown = DISK_SLACK + 1,
            |report| report.stop_seconds = None,
            |report| report.stop_seconds = Some(31.0),
            |report| report.log = Log { lines: LOG_LINES + 1, ..Log::default() },
            |report| report.log = Log { forged: Some(String::new()), ..Log::default() },
        ];
        for (index, spoil) in spoils.iter().enumerate() {
            let mut report = good();
            spoil(&mut report);
            assert_eq!(failures(&report, OwnBounds::default(), 1.0).len(), 1, "{index}");
        }
    }

    #[test]
    fn a_busy_machine_lengthens_limits_of_time_up_to_a_factor() {
        let mut report = good();
        report.undisturbed.writes.p99 = 50.0;
        report.attacked.writes.p99 = 499.0;
        assert_eq!(failures(&report, OwnBounds::default(), 1.0), Vec::<String>::new());
        report.undisturbed.writes.p99 = 10_000.0;
        report.attacked.writes.p99 = 1_001.0;
        assert_eq!(failures(&report, OwnBounds::default(), 1.0).len(), 1);
    }
}
