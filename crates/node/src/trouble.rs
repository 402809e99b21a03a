//! Trouble with storage, from its first failure to its end, and which of its failures are logged.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// The shortest time between two log lines about the same trouble.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// Something about storage that fails again and again, until it does not.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    told: Option<Instant>,
}

#[derive(Debug)]
struct Current {
    since: Instant,
    last: Instant,
    failures: u64,
    told: bool,
}

/// What a log line says about trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    /// How long it has lasted.
    pub(crate) lasting: Duration,
    /// How often storage has failed since it began.
    pub(crate) failures: u64,
}

impl Trouble {
    /// Storage has failed. Gives what to log, unless the last line is too recent.
    pub(crate) fn failed(&self, now: Instant) -> Option<Report> {
        let mut state = self.lock();
        let State { current, told } = &mut *state;
        let new = || Current { since: now, last: now, failures: 0, told: false };
        let current = current.get_or_insert_with(new);
        current.failures += 1;
        current.last = now;
        if told.is_some_and(|told| now.duration_since(told) < TELL_EVERY) {
            return None;
        }
        *told = Some(now);
        current.told = true;
        Some(current.report(now))
    }

    /// Storage has not failed. Gives what to log if a line has said that it did.
    pub(crate) fn ended(&self, now: Instant) -> Option<Report> {
        let current = self.lock().current.take()?;
        current.told.then(|| current.report(now))
    }

    /// Ends trouble that has not been seen for some time; see [`Self::ended`].
    pub(crate) fn ended_by_quiet(&self, quiet: Duration, now: Instant) -> Option<Report> {
        let is_quiet = |current: &mut Current| now.saturating_duration_since(current.last) >= quiet;
        let current = self.lock().current.take_if(is_quiet)?;
        current.told.then(|| current.report(now))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl Current {
    fn report(&self, now: Instant) -> Report {
        let lasting = now.saturating_duration_since(self.since);
        Report { lasting: Duration::from_secs(lasting.as_secs()), failures: self.failures }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_once_a_minute_and_its_end_once() {
        let trouble = Trouble::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut told = Vec::new();
        for second in 0..150 {
            if let Some(report) = trouble.failed(at(second)) {
                told.push((report.lasting.as_secs(), report.failures));
            }
        }
        assert_eq!(told, [(0, 1), (60, 61), (120, 121)]);
        let end = Report { lasting: Duration::from_secs(150), failures: 150 };
        assert_eq!(trouble.ended(at(150)), Some(end));
        assert_eq!(trouble.ended(at(151)), None);
    }

    #[test]
    fn trouble_that_comes_and_goes_makes_no_more_lines() {
        let trouble = Trouble::default();
        let start = Instant::now();
        let mut lines = 0;
        for second in 0..120 {
            let now = start + Duration::from_secs(second);
            lines += usize::from(trouble.failed(now).is_some());
            lines += usize::from(trouble.ended(now).is_some());
        }
        assert_eq!(lines, 4, "two minutes, and a line for the trouble and its end in each");
    }

    #[test]
    fn trouble_is_over_when_it_has_not_been_seen_for_a_while() {
        let trouble = Trouble::default();
        let (start, quiet) = (Instant::now(), Duration::from_secs(5));
        trouble.failed(start).unwrap();
        assert_eq!(trouble.ended_by_quiet(quiet, start + quiet / 2), None);
        assert!(trouble.ended_by_quiet(quiet, start + quiet).is_some());
    }
}
