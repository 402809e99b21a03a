//! Known states: whether a peer has a CoValue, and how many transactions of each session.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{CoValueId, SessionId};

/// Transaction counts by session, sorted by session id, with no session at zero.
///
/// The counts are in a sorted array, because comparing and merging known states is far more
/// frequent than adding a session.
///
/// Clones share the array until one of them changes, and a value is one pointer. So a server stores
/// equal counts of many peers once.
#[derive(Clone, Default)]
pub struct SessionCounts(Option<Arc<Vec<Count>>>);

type Count = (SessionId, u64);

impl SessionCounts {
    /// Empty counts.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Empty counts with room for `capacity` sessions.
    pub fn with_capacity(capacity: usize) -> Self {
        Self((capacity > 0).then(|| Arc::new(Vec::with_capacity(capacity))))
    }

    /// The number of transactions of a session, or 0 if the session is not listed.
    pub fn get(&self, session: &SessionId) -> u64 {
        self.find(session).map_or(0, |index| self.as_slice()[index].1)
    }

    /// Sets the count of a session. Setting 0 removes it.
    pub fn set(&mut self, session: &SessionId, count: u64) {
        match (self.find(session), count) {
            (Ok(index), 0) => {
                self.array().remove(index);
            }
            (Ok(index), _) => self.array()[index].1 = count,
            (Err(_), 0) => {}
            (Err(index), _) => self.array().insert(index, (session.clone(), count)),
        }
    }

    /// Raises the count of a session to `count` if it is lower.
    pub fn raise(&mut self, session: &SessionId, count: u64) {
        match self.find(session) {
            Ok(index) if self.as_slice()[index].1 >= count => {}
            Ok(index) => self.array()[index].1 = count,
            Err(_) if count == 0 => {}
            Err(index) => self.array().insert(index, (session.clone(), count)),
        }
    }

    /// The sessions and their counts, in the order of the session ids.
    pub fn iter(&self) -> std::slice::Iter<'_, (SessionId, u64)> {
        self.as_slice().iter()
    }

    /// The sessions and their counts, as a slice sorted by session id.
    pub fn as_slice(&self) -> &[(SessionId, u64)] {
        self.0.as_ref().map_or(&[], |array| array)
    }

    /// Whether both share one array, and therefore are equal. Counts that do not share an array may
    /// also be equal.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(array), Some(other)) => Arc::ptr_eq(array, other),
            (None, None) => true,
            _ => false,
        }
    }

    /// The number of sessions.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether no session is listed.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    fn find(&self, session: &SessionId) -> Result<usize, usize> {
        self.as_slice().binary_search_by(|(other, _)| other.cmp(session))
    }

    /// The array, unshared, so that it can be changed.
    fn array(&mut self) -> &mut Vec<Count> {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl PartialEq for SessionCounts {
    fn eq(&self, other: &Self) -> bool {
        self.is_shared_with(other) || self.as_slice() == other.as_slice()
    }
}

impl Eq for SessionCounts {}

impl fmt::Debug for SessionCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionCounts").field(&self.as_slice()).finish()
    }
}

/// Sorts the counts. If a session is repeated, its last count is kept, as in a JavaScript object.
impl FromIterator<(SessionId, u64)> for SessionCounts {
    fn from_iter<I: IntoIterator<Item = (SessionId, u64)>>(counts: I) -> Self {
        let mut counts: Vec<_> = counts.into_iter().collect();
        // Most counts come from another sorted list.
        if !counts.is_sorted_by(|(a, _), (b, _)| a < b) {
            counts.sort_by(|(a, _), (b, _)| a.cmp(b));
            counts.dedup_by(|later, kept| {
                let same = later.0 == kept.0;
                if same {
                    kept.1 = later.1;
                }
                same
            });
        }
        counts.retain(|&(_, count)| count > 0);
        Self((!counts.is_empty()).then(|| Arc::new(counts)))
    }
}

impl<'a> IntoIterator for &'a SessionCounts {
    type Item = &'a (SessionId, u64);
    type IntoIter = std::slice::Iter<'a, (SessionId, u64)>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for SessionCounts {
    type Item = (SessionId, u64);
    type IntoIter = std::vec::IntoIter<(SessionId, u64)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.map(Arc::unwrap_or_clone).unwrap_or_default().into_iter()
    }
}

/// The state of a CoValue at a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownState {
    /// The CoValue.
    pub id: CoValueId,
    /// Whether the peer has the header. Without it, the peer has nothing of the CoValue.
    pub header: bool,
    /// The number of transactions of each session, from the start of its log.
    pub sessions: SessionCounts,
}

impl KnownState {
    /// The known state of a peer without the CoValue.
    pub const fn empty(id: CoValueId) -> Self {
        Self { id, header: false, sessions: SessionCounts::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(name: &str) -> SessionId {
        SessionId::parse(&format!("co_z1_session_z{name}")).unwrap()
    }

    #[test]
    fn counts_are_kept_sorted_and_without_zeros() {
        let (a, b) = (session("a"), session("b"));
        let mut counts = SessionCounts::new();
        counts.set(&b, 2);
        counts.set(&a, 1);
        assert_eq!(counts.as_slice(), [(a.clone(), 1), (b.clone(), 2)]);
        counts.set(&a, 0);
        assert_eq!(counts.len(), 1);
        assert_eq!(counts.get(&a), 0);
    }

    #[test]
    fn raising_never_lowers() {
        let a = session("a");
        let mut counts = SessionCounts::new();
        counts.raise(&a, 3);
        counts.raise(&a, 2);
        assert_eq!(counts.get(&a), 3);
    }

    #[test]
    fn of_repeated_sessions_the_last_count_stands() {
        let (a, b) = (session("a"), session("b"));
        let counts = SessionCounts::from_iter([(b.clone(), 5), (a.clone(), 1), (b.clone(), 0)]);
        assert_eq!(counts.as_slice(), [(a, 1)]);
    }
}
