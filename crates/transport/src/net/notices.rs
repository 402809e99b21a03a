//! What happens often and is told once a minute.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often the log is told how many there were.
pub(super) const NOTICE_PERIOD: Duration = Duration::from_mins(1);

/// Causes that are told apart. Whoever admits peers may make up any number of reasons.
const MAX_CAUSES: usize = 32;

/// What stands for the others.
const OTHER: &str = "connections refused: for other reasons";

/// Tells the log of refused connections and the like: of a cause the first one at once, and once a
/// minute how many there were since.
#[derive(Debug, Default)]
pub struct Notices {
    causes: Mutex<BTreeMap<Cow<'static, str>, Tally>>,
}

#[derive(Debug, Default)]
struct Tally {
    untold: u64,
    /// The last one of those.
    example: String,
}

/// What the log is told.
#[derive(Debug, PartialEq, Eq)]
struct Notice {
    cause: Cow<'static, str>,
    count: u64,
    example: String,
}

impl Notices {
    /// Something has happened. The cause says what the operator can do about it; the example is one
    /// of those concerned.
    pub fn note(&self, cause: impl Into<Cow<'static, str>>, example: impl fmt::Display) {
        if let Some(notice) = self.add(cause.into(), &example) {
            notice.tell();
        }
    }

    /// To be called every [`NOTICE_PERIOD`].
    pub(super) fn report(&self) {
        for notice in self.take() {
            notice.tell();
        }
    }

    /// What is to be told at once: the first of a cause in a while.
    fn add(&self, cause: Cow<'static, str>, example: &dyn fmt::Display) -> Option<Notice> {
        // What is in there is consistent between any two statements that could panic.
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = causes.len() >= MAX_CAUSES && !causes.contains_key(&cause);
        let cause = if is_other { Cow::Borrowed(OTHER) } else { cause };
        if let Some(tally) = causes.get_mut(&cause) {
            tally.untold += 1;
            tally.example = example.to_string();
            return None;
        }
        causes.insert(cause.clone(), Tally::default());
        Some(Notice { cause, count: 1, example: example.to_string() })
    }

    /// What was not told yet. A cause of which nothing more has come is forgotten.
    fn take(&self) -> Vec<Notice> {
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        causes.retain(|_, tally| tally.untold > 0);
        let told = causes.iter_mut().map(|(cause, tally)| Notice {
            cause: cause.clone(),
            count: std::mem::take(&mut tally.untold),
            example: std::mem::take(&mut tally.example),
        });
        told.collect()
    }
}

impl Notice {
    fn tell(&self) {
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
    fn the_first_of_a_cause_is_told_at_once_and_the_others_once_a_period() {
        let notices = Notices::default();
        let add = |cause: &'static str, example: &str| notices.add(cause.into(), &example);
        assert_eq!(add("full", "a"), Some(notice("full", 1, "a")));
        assert_eq!(add("full", "b"), None);
        assert_eq!(add("address", "c"), Some(notice("address", 1, "c")));
        assert_eq!(add("full", "d"), None);
        assert_eq!(notices.take(), [notice("full", 2, "d")]);
        // As long as it goes on there is one line a period.
        assert_eq!(add("full", "e"), None);
        assert_eq!(notices.take(), [notice("full", 1, "e")]);
        assert_eq!(notices.take(), []);
        assert_eq!(add("full", "f"), Some(notice("full", 1, "f")));
    }

    #[test]
    fn any_number_of_causes_takes_bounded_memory() {
        let notices = Notices::default();
        for number in 0..1_000 {
            notices.add(format!("cause {number}").into(), &"x");
        }
        assert!(notices.causes.lock().unwrap().len() <= MAX_CAUSES + 1);
        let others = notices.take();
        assert_eq!(others.iter().map(|other| other.count).sum::<u64>(), 999 - MAX_CAUSES as u64);
    }
}
