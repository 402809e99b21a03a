//! The counts of a CoValue's sessions: how much is verified, and how much of that is durable.

use downbeat_core::known_state;
use downbeat_protocol::{SessionCounts, SessionId};
use rustc_hash::FxHashMap;

/// Transactions per session that are verified, and that are durable. The second are never more.
#[derive(Debug)]
pub(crate) struct Counts {
    verified: SessionCounts,
    /// The durable counts of the sessions that have fewer durable than verified transactions.
    behind: FxHashMap<SessionId, u64>,
}

impl Counts {
    /// Counts that are durable.
    pub(crate) fn stored(sessions: SessionCounts) -> Self {
        Self { verified: sessions, behind: FxHashMap::default() }
    }

    pub(crate) fn verified(&self) -> &SessionCounts {
        &self.verified
    }

    pub(crate) fn durable(&self) -> SessionCounts {
        let mut sessions = self.verified.clone();
        for (session, count) in &self.behind {
            sessions.set(session, *count);
        }
        sessions
    }

    /// The number of durable transactions of all sessions.
    pub(crate) fn durable_transactions(&self) -> u64 {
        let counts = self.verified.iter();
        counts.map(|(session, count)| self.behind.get(session).unwrap_or(count)).sum()
    }

    /// The durable count of a session that has more verified transactions.
    pub(crate) fn behind(&self, session: &SessionId) -> Option<u64> {
        self.behind.get(session).copied()
    }

    /// Whether some of these transactions are verified, and not durable.
    pub(crate) fn is_storing(&self, sessions: &SessionCounts) -> bool {
        self.behind.iter().any(|(session, durable)| sessions.get(session) > *durable)
    }

    /// Whether a deletion is verified, and not durable.
    pub(crate) fn is_storing_deletion(&self) -> bool {
        self.behind.keys().any(SessionId::is_delete)
    }

    /// More of a session is verified.
    pub(crate) fn verify(&mut self, session: &SessionId, count: u64) {
        let before = self.verified.get(session);
        self.behind.entry(session.clone()).or_insert(before);
        self.verified.raise(session, count);
    }

    /// More is durable.
    pub(crate) fn settle(&mut self, durable: &SessionCounts) {
        let verified = &self.verified;
        self.behind.retain(|session, count| {
            *count = durable.get(session).max(*count);
            *count < verified.get(session)
        });
    }

    /// Removes all sessions but those that delete the CoValue.
    pub(crate) fn keep_delete_sessions(&mut self) {
        self.verified =
            self.verified.iter().filter(|(session, _)| session.is_delete()).cloned().collect();
        self.behind.retain(|session, _| session.is_delete());
    }

    /// The transactions that a peer with `sessions` lacks.
    pub(crate) fn missing(&self, sessions: &SessionCounts) -> SessionCounts {
        known_state::missing(&self.verified, sessions)
    }
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
        assert_eq!((both.verified(), both.durable()), (&counts(5), counts(2)));
        assert!(both.is_storing(&counts(3)) && !both.is_storing(&counts(2)));
        both.settle(&counts(4));
        assert_eq!(both.durable(), counts(4));
        both.settle(&counts(3));
        assert_eq!((both.durable(), both.durable_transactions()), (counts(4), 4));
        both.settle(&counts(5));
        assert_eq!((both.durable(), both.behind(&session())), (counts(5), None));
    }
}
