//! Progress on standard error: a bar on a terminal, a line every ten seconds otherwise.

use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use downbeat_tools::{ProgressObserver, Unit};
use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressDrawTarget, ProgressStyle};

/// Time between lines without a terminal: short enough to see progress, and long enough for a log.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// How often the bar is drawn.
const DRAWS_PER_SECOND: u8 = 5;

/// The progress of a tool. It goes to standard error, because standard output is for results.
pub(super) struct ProgressBar {
    bar: indicatif::ProgressBar,
    verb: &'static str,
    state: Mutex<State>,
}

struct State {
    unit: Unit,
    /// When the last line was written; `None` if no lines are written.
    last_line: Option<Instant>,
}

impl ProgressBar {
    /// `verb` names the work: "importing".
    pub(super) fn new(verb: &'static str, quiet: bool) -> Self {
        let bar = indicatif::ProgressBar::no_length();
        let lines = !quiet && !stderr().is_terminal();
        bar.set_draw_target(if quiet || lines {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND)
        });
        bar.set_prefix(verb);
        let last_line = lines.then(Instant::now);
        Self { bar, verb, state: Mutex::new(State { unit: Unit::CoValues, last_line }) }
    }

    /// Clears the bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, unit: Unit) -> String {
        let per_second = whole(self.bar.per_sec());
        let show = |amount: u64| match unit {
            Unit::CoValues => HumanCount(amount).to_string(),
            Unit::Bytes => HumanBytes(amount).to_string(),
        };
        let (at, rate) = (show(self.bar.position()), show(per_second));
        let noun = if unit == Unit::CoValues { " CoValues" } else { "" };
        let Some(total) = self.bar.length() else {
            return format!("{}: {at}{noun}, {rate}/s", self.verb);
        };
        let left = HumanDuration(self.bar.eta());
        format!("{}: {at} of {}{noun}, {rate}/s, {left} left", self.verb, show(total))
    }
}

impl ProgressObserver for ProgressBar {
    fn start(&self, unit: Unit, total: Option<u64>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).unit = unit;
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_style(style(unit, total.is_some()));
        self.bar.reset_elapsed();
    }

    fn add(&self, amount: u64) {
        self.bar.inc(amount);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last_line.is_some_and(|last| last.elapsed() >= LINE_INTERVAL) {
            state.last_line = Some(Instant::now());
            eprintln!("{}", self.line(state.unit));
        }
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
        reason = "the rate is rounded for display"
    )]
    let rate = rate.max(0.0) as u64;
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_the_done_and_the_remaining_work() {
        let progress = ProgressBar::new("importing", true);
        progress.start(Unit::CoValues, Some(2_000_000));
        progress.add(1_500);
        let line = progress.line(Unit::CoValues);
        assert!(line.starts_with("importing: 1,500 of 2,000,000 CoValues, "), "{line}");
        assert!(line.ends_with(" left"), "{line}");
    }

    #[test]
    fn without_a_total_there_is_no_time_left() {
        let progress = ProgressBar::new("importing", true);
        progress.start(Unit::Bytes, None);
        progress.add(3 << 20);
        let line = progress.line(Unit::Bytes);
        assert!(line.starts_with("importing: 3.00 MiB, "), "{line}");
    }
}
