//! One log line a minute for each cause of refusals.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The interval between log lines about the same cause.
pub(super) const REPORT_PERIOD: Duration = Duration::from_mins(1);

/// Causes with a count of their own. An [`Admission`](crate::Admission) can give any number of
/// reasons.
const MAX_CAUSES: usize = 32;

/// The cause that stands for all further ones.
const OTHER: &str = "connections refused: for other reasons";

/// Logs refused connections and the like: the first of each cause at once, then the count once a
/// minute.
#[derive(Debug, Default)]
pub(super) struct LogThrottle {
    causes: Mutex<BTreeMap<Cow<'static, str>, Tally>>,
}

#[derive(Debug, Default)]
struct Tally {
    unlogged: u64,
    /// The last one of them.
    example: String,
}

/// One log line.
#[derive(Debug, PartialEq, Eq)]
struct Notice {
    cause: Cow<'static, str>,
    count: u64,
    example: String,
}

impl LogThrottle {
    /// Logs an event, or counts it for the next report. The cause says what an operator can do; the
    /// example names one peer.
    pub(super) fn warn(&self, cause: impl Into<Cow<'static, str>>, example: impl fmt::Display) {
        if let Some(notice) = self.add(cause.into(), &example) {
            notice.log();
        }
    }

    /// Logs the counts. The acceptor calls this every [`REPORT_PERIOD`].
    pub(super) fn report(&self) {
        for notice in self.take() {
            notice.log();
        }
    }

    /// Returns the line to log at once, for the first event of a cause.
    fn add(&self, cause: Cow<'static, str>, example: &dyn fmt::Display) -> Option<Notice> {
        // No statement that could panic leaves the map inconsistent.
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = causes.len() >= MAX_CAUSES && !causes.contains_key(&cause);
        let cause = if is_other { Cow::Borrowed(OTHER) } else { cause };
        if let Some(tally) = causes.get_mut(&cause) {
            tally.unlogged += 1;
            tally.example = example.to_string();
            return None;
        }
        causes.insert(cause.clone(), Tally::default());
        Some(Notice { cause, count: 1, example: example.to_string() })
    }

    /// Takes the lines that are due. Forgets causes without new events.
    fn take(&self) -> Vec<Notice> {
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        causes.retain(|_, tally| tally.unlogged > 0);
        let due = causes.iter_mut().map(|(cause, tally)| Notice {
            cause: cause.clone(),
            count: std::mem::take(&mut tally.unlogged),
            example: std::mem::take(&mut tally.example),
        });
        due.collect()
    }
}

impl Notice {
    fn log(&self) {
        tracing::warn!(count = self.count, example = self.example, "{}", self.cause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(cause: &'static str, count: u64, example: &str) -> Notice {
        Notice { cause: cause.into(), count, example: example.to_owned() }
    }

    #[test]
    fn the_first_of_a_cause_is_logged_at_once_and_the_others_once_a_period() {
        let log = LogThrottle::default();
        let add = |cause: &'static str, example: &str| log.add(cause.into(), &example);
        assert_eq!(add("full", "a"), Some(notice("full", 1, "a")));
        assert_eq!(add("full", "b"), None);
        assert_eq!(add("address", "c"), Some(notice("address", 1, "c")));
        assert_eq!(add("full", "d"), None);
        assert_eq!(log.take(), [notice("full", 2, "d")]);
        // As long as it goes on there is one line a period.
        assert_eq!(add("full", "e"), None);
        assert_eq!(log.take(), [notice("full", 1, "e")]);
        assert_eq!(log.take(), []);
        assert_eq!(add("full", "f"), Some(notice("full", 1, "f")));
    }

    #[test]
    fn any_number_of_causes_takes_bounded_memory() {
        let log = LogThrottle::default();
        for number in 0..1_000 {
            log.add(format!("cause {number}").into(), &"x");
        }
        assert!(log.causes.lock().unwrap().len() <= MAX_CAUSES + 1);
        let others = log.take();
        assert_eq!(others.iter().map(|other| other.count).sum::<u64>(), 999 - MAX_CAUSES as u64);
    }
}
