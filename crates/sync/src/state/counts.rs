//! The counts of a CoValue's sessions: how much is verified, and how much of that is durable.

use downbeat_core::known_state;
use downbeat_protocol::{SessionCounts, SessionId};

/// Transactions per session that are verified, and that are durable. The second are never more.
#[derive(Debug)]
pub(crate) struct Counts {
    verified: SessionCounts,
    durable: SessionCounts,
    /// The sum of all verified transactions, and that of the durable ones.
    verified_sum: u64,
    durable_sum: u64,
}

impl Counts {
    /// Counts that are durable.
    pub(crate) fn stored(sessions: SessionCounts) -> Self {
        let sum = sum(&sessions);
        Self { verified: sessions.clone(), durable: sessions, verified_sum: sum, durable_sum: sum }
    }

    pub(crate) fn verified(&self) -> &SessionCounts {
        &self.verified
    }

    pub(crate) fn durable(&self) -> &SessionCounts {
        &self.durable
    }

    /// The number of verified transactions of all sessions.
    pub(crate) fn verified_transactions(&self) -> u64 {
        self.verified_sum
    }

    /// The number of durable transactions of all sessions.
    pub(crate) fn durable_transactions(&self) -> u64 {
        self.durable_sum
    }

    /// Whether not all verified transactions of a session are durable.
    pub(crate) fn is_behind(&self, session: &SessionId) -> bool {
        self.durable_sum < self.verified_sum
            && self.durable.get(session) < self.verified.get(session)
    }

    /// Whether some of these transactions are verified, and not durable.
    pub(crate) fn is_storing(&self, sessions: &SessionCounts) -> bool {
        let behind = self.verified_sum - self.durable_sum;
        if (sessions.len() as u64) < behind {
            let is_storing = |session, count| {
                let durable = self.durable.get(session);
                durable < count && durable < self.verified.get(session)
            };
            return sessions.iter().any(|(session, count)| is_storing(session, *count));
        }
        known_state::ahead(&self.verified, &self.durable)
            .any(|(session, _, durable)| sessions.get(session) > durable)
    }

    /// Whether a deletion is verified, and not durable.
    pub(crate) fn is_storing_deletion(&self) -> bool {
        known_state::ahead(&self.verified, &self.durable).any(|(session, ..)| session.is_delete())
    }

    /// More of a session is verified.
    pub(crate) fn verify(&mut self, session: &SessionId, count: u64) {
        self.verified_sum += count.saturating_sub(self.verified.get(session));
        self.verified.raise(session, count);
    }

    /// More is durable.
    pub(crate) fn settle(&mut self, durable: &SessionCounts) {
        let verified = &self.verified;
        let ends =
            || durable.iter().map(|(session, end)| (session, verified.get(session).min(*end)));
        let more = ends().map(|(session, end)| end.saturating_sub(self.durable.get(session)));
        self.durable_sum += more.sum::<u64>();
        if self.verified_sum == self.durable_sum {
            // Both share their memory.
            return self.durable.clone_from(verified);
        }
        for (session, end) in ends() {
            self.durable.raise(session, end);
        }
    }

    /// Removes all sessions but those that delete the CoValue.
    pub(crate) fn keep_delete_sessions(&mut self) {
        for counts in [&mut self.verified, &mut self.durable] {
            let deletions = counts.iter().filter(|(session, _)| session.is_delete());
            *counts = deletions.collect();
        }
        self.verified_sum = sum(&self.verified);
        self.durable_sum = sum(&self.durable);
    }
}

fn sum(sessions: &SessionCounts) -> u64 {
    sessions.iter().map(|(_, count)| count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(count: u64) -> SessionCounts {
        SessionCounts::from_iter([(session(), count)])
    }

    fn session() -> SessionId {
        SessionId::parse("co_z1_session_z1").unwrap()
    }

    #[test]
    fn what_is_verified_is_durable_when_the_store_says_so() {
        let mut both = Counts::stored(counts(2));
        both.verify(&session(), 5);
        assert_eq!((both.verified(), both.durable()), (&counts(5), &counts(2)));
        assert!(both.is_storing(&counts(3)) && !both.is_storing(&counts(2)));
        both.settle(&counts(4));
        assert_eq!(both.durable(), &counts(4));
        both.settle(&counts(3));
        assert_eq!((both.durable(), both.durable_transactions()), (&counts(4), 4));
        both.settle(&counts(5));
        assert_eq!((both.durable(), both.is_behind(&session())), (&counts(5), false));
        assert!(both.durable().is_shared_with(both.verified()));
    }
}
