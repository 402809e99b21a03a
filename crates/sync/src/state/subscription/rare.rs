//! State that few subscriptions have: corrections, refused sessions, forks and comparisons.

use downbeat_core::known_state;
use downbeat_protocol::{SessionCounts, SessionId, ShortHash};

use crate::event::Millis;

/// Refused sessions that are remembered of one peer and CoValue. A client has one or two; if a
/// peer has more, the whole CoValue counts as refused.
const MAX_REFUSED_SESSIONS: usize = 16;

/// Forked sessions that are remembered of one peer and CoValue. A client has one session.
const MAX_FORKED_SESSIONS: usize = 16;

/// The time between the first correction and the second. Each correction makes a client send
/// everything that it has, and pieces that were in flight before it arrives have gaps as well.
const CORRECTION_INTERVAL: Millis = 1_000;

/// How often the interval doubles: up to 64 s.
const MAX_DOUBLINGS: u32 = 6;

/// State that few subscriptions have.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Rare {
    pub corrections: Corrections,
    /// Sessions with refused content.
    refused: Vec<SessionId>,
    /// The sessions that the peer has forked, latest last.
    forks: Vec<Fork>,
    /// Sessions that the peer has sent, of a CoValue with many, until they are acknowledged.
    pub acknowledged: SessionCounts,
    /// The hash that the peer has sent in a reconcile message, until it has been compared.
    pub comparison: Option<ShortHash>,
    /// Whether the peer stated its counts in a LOAD while its content was still in progress here,
    /// so that this content does not tell what it has.
    pub is_older: bool,
}

/// A session that a peer has forked.
#[derive(Debug, PartialEq)]
struct Fork {
    session: SessionId,
    /// The number of transactions before the fork, until the peer has the same log again. What it
    /// writes there cannot be verified, and is not a forgery.
    at: Option<u64>,
    /// How often the peer has sent a fork of the session.
    times: u32,
}

/// The corrections that a peer gets.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Corrections {
    /// The last one, until the peer loads the CoValue again.
    last: Option<Corrected>,
    /// The counts of the peer's content that was dropped, because it did not follow what is here.
    dropped: SessionCounts,
}

/// A correction that was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Corrected {
    at: Millis,
    /// How many corrections there were.
    count: u32,
}

impl Corrections {
    /// Content up to these counts was dropped.
    pub(crate) fn drop_content(&mut self, dropped: &SessionCounts) {
        known_state::merge_counts(&mut self.dropped, dropped);
    }

    /// Whether the dropped content has arrived since.
    pub(crate) fn is_caught_up(&self, ours: &SessionCounts) -> bool {
        known_state::is_subset(&self.dropped, ours)
    }

    pub(crate) fn take_dropped(&mut self) -> SessionCounts {
        std::mem::take(&mut self.dropped)
    }

    /// The number of sessions of the content that was dropped.
    pub(crate) fn dropped_sessions(&self) -> usize {
        self.dropped.len()
    }

    /// Whether the peer was corrected since its last LOAD.
    pub(crate) fn is_corrected(&self) -> bool {
        self.last.is_some()
    }

    /// When the next correction may be sent, if that is not now.
    pub(crate) fn due(&self, now: Millis) -> Option<Millis> {
        let Corrected { at, count } = self.last?;
        let wait = CORRECTION_INTERVAL << (count - 1).min(MAX_DOUBLINGS);
        Some(at + wait).filter(|due| now < *due)
    }

    /// A correction is sent.
    pub(crate) fn send(&mut self, now: Millis) {
        let count = self.last.map_or(0, |last| last.count).saturating_add(1);
        self.last = Some(Corrected { at: now, count });
        self.dropped = SessionCounts::new();
    }
}

impl Rare {
    /// Content of a session was refused. Returns whether there is room to remember it.
    pub(crate) fn refuse(&mut self, session: SessionId) -> bool {
        let has_room = self.refused.len() < MAX_REFUSED_SESSIONS;
        if has_room {
            self.refused.push(session);
        }
        has_room
    }

    pub(crate) fn has_refused(&self, session: &SessionId) -> bool {
        self.refused.contains(session)
    }

    /// The peer has forked a session after so many transactions. Returns whether it gets what it
    /// lacks: the first, second, 16th, 256th time and so on, because a fork of a few bytes may lack
    /// all of a long log.
    pub(crate) fn fork(&mut self, session: SessionId, after: u64) -> bool {
        let position = self.forks.iter().position(|fork| fork.session == session);
        let before = position.map(|position| self.forks.remove(position).times);
        if self.forks.len() >= MAX_FORKED_SESSIONS {
            self.forks.remove(0);
        }
        let times = before.unwrap_or_default().saturating_add(1);
        self.forks.push(Fork { session, at: Some(after), times });
        times == 2 || times.is_power_of_two() && times.trailing_zeros().is_multiple_of(4)
    }

    /// After how many transactions the peer has forked a session.
    pub(crate) fn forked(&self, session: &SessionId) -> Option<u64> {
        self.forks.iter().find(|fork| fork.session == *session)?.at
    }

    /// The peer has the same log of a session again.
    pub(crate) fn end_fork(&mut self, session: &SessionId) {
        let mut forks = self.forks.iter_mut();
        if let Some(fork) = forks.find(|fork| fork.session == *session) {
            fork.at = None;
        }
    }

    /// Content of a session is accepted.
    pub(crate) fn accept(&mut self, session: &SessionId) {
        self.refused.retain(|other| other != session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrections_are_further_and_further_apart() {
        let mut corrections = Corrections::default();
        assert_eq!(corrections.due(0), None);
        for (now, due) in [(0, 1_000), (1_000, 3_000), (3_000, 7_000)] {
            corrections.send(now);
            assert_eq!(corrections.due(now), Some(due));
            assert_eq!(corrections.due(due), None);
        }
    }
}
