//! How far a tool has got, for whoever waits: a bar on a terminal, a line now and then otherwise.

use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{
    HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle,
};

/// How often a line is written where there is no terminal: often enough to see that it goes on,
/// and seldom enough for a log.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// How often the bar is drawn.
const DRAWS_PER_SECOND: u8 = 5;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    CoValues,
    Bytes,
}

/// How far a tool has got. Written to standard error, as standard output is for results.
pub(crate) struct Progress {
    bar: ProgressBar,
    unit: Unit,
    verb: &'static str,
    /// Where there is no terminal: when the last line was written.
    lines: Option<Mutex<Instant>>,
}

impl Progress {
    /// Begins. `verb` says what is being done: "importing". Without a total there is no time left.
    pub(crate) fn new(verb: &'static str, unit: Unit, total: Option<u64>, quiet: bool) -> Self {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        let lines = !quiet && !stderr().is_terminal();
        bar.set_draw_target(if quiet || lines {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND)
        });
        bar.set_style(style(unit, total.is_some()));
        bar.set_prefix(verb);
        Self { bar, unit, verb, lines: lines.then(|| Mutex::new(Instant::now())) }
    }

    /// Notes that more has been done.
    pub(crate) fn add(&self, amount: u64) {
        self.bar.inc(amount);
        let Some(lines) = &self.lines else { return };
        let mut last = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= LINE_INTERVAL {
            *last = Instant::now();
            eprintln!("{}", self.line());
        }
    }

    /// Takes the bar off the screen.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// The time since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.bar.elapsed()
    }

    fn line(&self) -> String {
        let per_second = whole(self.bar.per_sec());
        let (at, rate) = match self.unit {
            Unit::CoValues => {
                (HumanCount(self.bar.position()).to_string(), HumanCount(per_second).to_string())
            }
            Unit::Bytes => {
                (HumanBytes(self.bar.position()).to_string(), HumanBytes(per_second).to_string())
            }
        };
        let noun = if self.unit == Unit::CoValues { " CoValues" } else { "" };
        let Some(total) = self.bar.length() else {
            return format!("{}: {at}{noun}, {rate}/s", self.verb);
        };
        let total = match self.unit {
            Unit::CoValues => HumanCount(total).to_string(),
            Unit::Bytes => HumanBytes(total).to_string(),
        };
        let left = HumanDuration(self.bar.eta());
        format!("{}: {at} of {total}{noun}, {rate}/s, {left} left", self.verb)
    }
}

fn style(unit: Unit, has_total: bool) -> ProgressStyle {
    let template = match (unit, has_total) {
        (Unit::CoValues, true) => {
            "{prefix} [{bar:30}] {human_pos} of {human_len} CoValues, {per_sec:.0}, {eta} left"
        }
        (Unit::CoValues, false) => "{prefix} {human_pos} CoValues, {per_sec:.0}",
        (Unit::Bytes, true) => {
            "{prefix} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left"
        }
        (Unit::Bytes, false) => "{prefix} {bytes}, {bytes_per_sec}",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

fn whole(rate: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is for reading"
    )]
    let rate = rate.max(0.0) as u64;
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_was_done_and_what_is_left() {
        let progress = Progress::new("importing", Unit::CoValues, Some(2_000_000), true);
        progress.add(1_500);
        let line = progress.line();
        assert!(line.starts_with("importing: 1,500 of 2,000,000 CoValues, "), "{line}");
        assert!(line.ends_with(" left"), "{line}");
    }

    #[test]
    fn without_a_total_there_is_no_time_left() {
        let progress = Progress::new("importing", Unit::Bytes, None, true);
        progress.add(3 << 20);
        assert!(progress.line().starts_with("importing: 3.00 MiB, "), "{}", progress.line());
    }
}
