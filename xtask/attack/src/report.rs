//! The measurements of one attack.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::honest::Phase;
use crate::socket::Counters;

/// The measurements of one attack, and what failed.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) attack: &'static str,
    pub(crate) memory_budget: u64,
    pub(crate) sent: Sent,
    /// The honest client before the attack.
    pub(crate) undisturbed: Phase,
    /// The honest client during the attack and the five seconds after it.
    pub(crate) attacked: Phase,
    /// An honest client of a new server process on the same store, after the attack.
    pub(crate) afterwards: Phase,
    pub(crate) attack_seconds: f64,
    pub(crate) memory: Memory,
    /// The growth of the store's files.
    pub(crate) disk_grown: u64,
    /// The bytes that the server may have stored.
    pub(crate) storable: u64,
    /// The time from SIGTERM to the end; `None` if the server did not end in order.
    pub(crate) stop_seconds: Option<f64>,
    pub(crate) log: Log,
    pub(crate) failures: Vec<String>,
}

/// What the attacker sent.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Sent {
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
    pub(crate) connections: u64,
    /// Connections that the server closed.
    pub(crate) closed: u64,
    /// The bytes that the attacker read.
    pub(crate) received: u64,
}

/// The resident memory of the server, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Memory {
    pub(crate) before: u64,
    pub(crate) peak: u64,
    pub(crate) after: u64,
}

/// The server's log during the attack.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Log {
    pub(crate) lines: usize,
    pub(crate) bytes: usize,
    /// The first line that the server cannot have written as a whole line.
    pub(crate) forged: Option<String>,
    /// The first line about a panic.
    pub(crate) panic: Option<String>,
}

impl Sent {
    pub(crate) fn of(counters: &Counters) -> Self {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            bytes: value(&counters.sent),
            messages: value(&counters.messages),
            connections: value(&counters.connections),
            closed: value(&counters.closed_by_server),
            received: value(&counters.received),
        }
    }
}

impl Log {
    pub(crate) fn of(text: &str) -> Self {
        let first = |is: fn(&&str) -> bool| text.lines().find(is).map(str::to_owned);
        Self {
            lines: text.lines().count(),
            bytes: text.len(),
            forged: first(|line| !is_log_line(line)),
            panic: first(|line| line.contains("panicked")),
        }
    }
}

/// Whether the server can have written this line: with a time at its start, and without control
/// characters. Attackers write `FORGED` to find their own lines.
fn is_log_line(line: &str) -> bool {
    let has_time = line.get(..11).is_some_and(|start| {
        start.starts_with("20") && start.ends_with('T') && !line[11..].starts_with("FORGED")
    });
    has_time && !line.contains(char::is_control)
}

/// A size in MiB.
pub(crate) fn mib(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mib = bytes as f64 / f64::from(1 << 20);
    format!("{mib:.1} MiB")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, memory budget {}", self.attack, mib(self.memory_budget))?;
        let Sent { bytes, messages, connections, closed, received } = self.sent;
        writeln!(
            f,
            "    sent         {} in {messages} messages, {connections} connections ({closed} closed) \
             in {:.1} s; received {}",
            mib(bytes),
            self.attack_seconds,
            mib(received),
        )?;
        for (name, phase) in [
            ("undisturbed", self.undisturbed),
            ("attacked", self.attacked),
            ("afterwards", self.afterwards),
        ] {
            writeln!(f, "    {name:<12} writes {}; loads {}", phase.writes, phase.loads)?;
        }
        let Memory { before, peak, after } = self.memory;
        let stop = self.stop_seconds.map_or("not in order".to_owned(), |s| format!("{s:.1} s"));
        write!(
            f,
            "    resident     {} before, {} peak, {} after; disk +{} for {}; stop {stop}; log {} lines",
            mib(before),
            mib(peak),
            mib(after),
            mib(self.disk_grown),
            mib(self.storable),
            self.log.lines,
        )?;
        for failure in &self.failures {
            write!(f, "\n    FAILED: {failure}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_a_time_or_with_an_escape_is_forged() {
        let good = "2026-11-30T11:00:00.000000Z  INFO downbeat: listening\n";
        assert_eq!(Log::of(good).forged, None);
        for bad in ["listening", "2026-11-30T11:00:00Z \u{1b}[31mred", "2026-11-30TFORGED"] {
            assert_eq!(Log::of(&format!("{good}{bad}\n{good}")).forged.as_deref(), Some(bad));
        }
    }
}
