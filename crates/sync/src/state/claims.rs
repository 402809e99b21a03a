//! The sessions that a peer claims with other counts than ours, and those of its dropped content.

use rustc_hash::FxHashMap;

use crate::cost::CLAIMED_SESSION_BYTES;
use crate::state::table::Key;

/// For each CoValue with such sessions: their number.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    by_value: FxHashMap<Key, usize>,
    sessions: u64,
}

impl Claims {
    /// The number that is noted for a CoValue.
    pub(crate) fn get(&self, key: Key) -> usize {
        if self.by_value.is_empty() { 0 } else { self.by_value.get(&key).copied().unwrap_or(0) }
    }

    /// Notes the number for a CoValue.
    pub(crate) fn set(&mut self, key: Key, sessions: usize) {
        let before = if sessions > 0 {
            self.by_value.insert(key, sessions)
        } else if self.by_value.is_empty() {
            return;
        } else {
            self.by_value.remove(&key)
        };
        self.sessions = self.sessions + charged(sessions) - before.map_or(0, charged);
    }

    /// The memory of all claims.
    pub(crate) fn bytes(&self) -> u64 {
        self.sessions * CLAIMED_SESSION_BYTES
    }
}

fn charged(sessions: usize) -> u64 {
    if sessions == 0 { 0 } else { 1 + sessions as u64 }
}
