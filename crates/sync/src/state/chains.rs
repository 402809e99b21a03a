//! Hash chains of the sessions of a CoValue that were written recently.

use downbeat_crypto::HashChain;
use downbeat_protocol::SessionId;
use rustc_hash::FxHashMap;

use crate::state::recency::Stamp;

/// Hash chains up to the verified counts, each with the time of its last use.
#[derive(Debug, Default)]
pub(crate) struct Chains {
    by_session: FxHashMap<SessionId, (HashChain, Stamp)>,
}

impl Chains {
    pub(crate) fn len(&self) -> usize {
        self.by_session.len()
    }

    /// Keeps a chain. Returns whether the session had none.
    pub(crate) fn insert(&mut self, session: SessionId, chain: HashChain, stamp: Stamp) -> bool {
        self.by_session.insert(session, (chain, stamp)).is_none()
    }

    pub(crate) fn take(&mut self, session: &SessionId) -> Option<HashChain> {
        self.by_session.remove(session).map(|(chain, _)| chain)
    }

    /// Whether the last use of a session's chain was at `stamp`.
    pub(crate) fn is_current(&self, session: &SessionId, stamp: Stamp) -> bool {
        self.by_session.get(session).is_some_and(|(_, used)| *used == stamp)
    }

    /// Removes all chains. Returns how many there were.
    pub(crate) fn clear(&mut self) -> usize {
        let count = self.by_session.len();
        self.by_session.clear();
        count
    }
}
