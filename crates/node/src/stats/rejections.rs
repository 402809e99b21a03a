//! The last rejections.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use downbeat_protocol::CoValueId;
use rustc_hash::FxHashMap;

/// Rejections that are kept, and what a page for operators shows.
const KEPT: usize = 100;

/// How often the log tells of the same peer and reason.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Peers and reasons whose rejections are counted between two lines of the log. Beyond that, all
/// other peers count as one, so that a flood from many connections is no flood of lines.
const MAX_SILENT: usize = 1_000;

/// Something that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// When.
    pub at: SystemTime,
    /// Who sent it: an address, or the name of an upstream.
    pub peer: String,
    /// The name of the access key that the peer came with.
    pub label: Option<std::sync::Arc<str>>,
    /// What it was about, where it could be read.
    pub co_value: Option<CoValueId>,
    /// The session, where one session is at fault.
    pub session: Option<String>,
    /// Why: a name, as in [`RejectionStats`](super::RejectionStats).
    pub reason: &'static str,
    /// Why, in words.
    pub detail: String,
}

/// The last rejections, and which of them the log is told of.
#[derive(Default)]
pub(crate) struct Recent {
    kept: VecDeque<Refused>,
    /// Since when a peer's rejections for a reason have been counted instead of logged, and how
    /// many they are.
    silent: FxHashMap<(String, &'static str), (Instant, u64)>,
    /// The same for all those together that have no place there. Bounded by the reasons there are.
    crowd: FxHashMap<&'static str, (Instant, u64)>,
}

impl Recent {
    /// Notes a rejection. Returns how many of the same peer (or of many, where they are too many to
    /// tell apart) and for the same reason have not been logged, if this one is logged.
    pub(crate) fn add(&mut self, refused: Refused, now: Instant) -> Option<u64> {
        let key = (refused.peer.clone(), refused.reason);
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(refused);
        if let Some((since, count)) = self.silent.get_mut(&key) {
            if now.saturating_duration_since(*since) < LOG_PERIOD {
                *count += 1;
                return None;
            }
            *since = now;
            return Some(std::mem::take(count));
        }
        if self.silent.len() < MAX_SILENT {
            self.silent.insert(key, (now, 0));
            return Some(0);
        }
        self.add_to_crowd(key, now)
    }

    /// Notes a rejection of a peer and for a reason that there was no place for.
    fn add_to_crowd(&mut self, key: (String, &'static str), now: Instant) -> Option<u64> {
        let reason = key.1;
        if let Some((since, count)) = self.crowd.get_mut(reason)
            && now.saturating_duration_since(*since) < LOG_PERIOD
        {
            *count += 1;
            return None;
        }
        // Looked through once in a period for each reason, not for each rejection.
        self.silent.retain(|_, (since, _)| now.saturating_duration_since(*since) < LOG_PERIOD);
        if self.silent.len() < MAX_SILENT {
            self.silent.insert(key, (now, 0));
            return Some(self.crowd.remove(reason).map_or(0, |(_, count)| count));
        }
        let (_, count) = self.crowd.insert(reason, (now, 0)).unwrap_or((now, 0));
        Some(count)
    }

    /// The last ones, the latest first.
    pub(crate) fn latest(&self) -> Vec<Refused> {
        self.kept.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(peer: &str, reason: &'static str) -> Refused {
        Refused {
            at: SystemTime::UNIX_EPOCH,
            peer: peer.to_owned(),
            label: None,
            co_value: None,
            session: None,
            reason,
            detail: String::new(),
        }
    }

    #[test]
    fn a_flood_of_one_kind_is_one_line_for_each_period_with_its_count() {
        let mut recent = Recent::default();
        let now = Instant::now();
        assert_eq!(recent.add(refused("a", "forked"), now), Some(0));
        for _ in 0..5 {
            assert_eq!(recent.add(refused("a", "forked"), now), None);
        }
        assert_eq!(recent.add(refused("a", "errored"), now), Some(0));
        assert_eq!(recent.add(refused("b", "forked"), now), Some(0));
        assert_eq!(recent.add(refused("a", "forked"), now + LOG_PERIOD), Some(5));
    }

    #[test]
    fn peers_beyond_those_that_are_remembered_share_one_line_for_each_reason() {
        let mut recent = Recent::default();
        let now = Instant::now();
        let mut from =
            |number: usize, reason, now| recent.add(refused(&number.to_string(), reason), now);
        for number in 0..MAX_SILENT {
            assert_eq!(from(number, "forked", now), Some(0));
        }
        assert_eq!(from(MAX_SILENT, "forked", now), Some(0));
        for number in 0..500 {
            assert_eq!(from(MAX_SILENT + number, "forked", now), None);
        }
        assert_eq!(from(MAX_SILENT, "errored", now), Some(0));
        assert_eq!(from(MAX_SILENT + 1, "errored", now), None);
        // Those who have a place keep it.
        assert_eq!(from(0, "forked", now), None);
        let later = now + LOG_PERIOD;
        assert_eq!(from(MAX_SILENT + 7, "forked", later), Some(500));
        assert_eq!(from(MAX_SILENT + 8, "forked", later), Some(0), "there is room again");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut recent = Recent::default();
        let now = Instant::now();
        for number in 0..5_000 {
            recent.add(refused(&number.to_string(), "forked"), now);
        }
        assert_eq!(recent.latest().len(), KEPT);
        assert_eq!(recent.latest()[0].peer, "4999");
        assert!(recent.silent.len() <= MAX_SILENT);
        recent.add(refused("late", "forked"), now + LOG_PERIOD);
        assert_eq!(recent.silent.len(), 1);
    }
}
