//! Known states: whether a peer has a CoValue, and how many transactions of each session.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{CoValueId, SessionId};

mod differences;
mod iter;
mod tree;

pub use differences::Differences;
#[cfg(feature = "count-steps")]
pub use differences::steps::take_steps;
pub use iter::CountsIter;
use tree::Tree;

/// Transaction counts by session, sorted by session id, with no session at zero.
///
/// The counts of few sessions are in a sorted array, because comparing and merging known states is
/// far more frequent than adding a session. The counts of more are in a tree.
///
/// Clones share memory, and a value is one pointer. A changed clone of an array is a copy; a
/// changed clone of a tree still shares all parts that did not change. So a server stores the
/// counts of many peers about once, and to change or compare versions of the same counts costs
/// about as much as they differ, however many sessions there are.
#[derive(Clone, Default)]
pub struct SessionCounts(Option<Arc<Repr>>);

#[derive(Clone)]
enum Repr {
    Flat(Vec<Count>),
    Tree(Tree),
}

type Count = (SessionId, u64);

/// The most sessions in an array. With more, a changed copy of a tree costs less.
const MAX_FLAT: usize = 32;

/// A tree with fewer sessions becomes an array again.
const MIN_TREE: usize = MAX_FLAT / 2;

impl SessionCounts {
    /// Empty counts.
    pub const fn new() -> Self {
        Self(None)
    }

    /// The number of transactions of a session, or 0 if the session is not listed.
    pub fn get(&self, session: &SessionId) -> u64 {
        match self.0.as_deref() {
            None => 0,
            Some(Repr::Flat(array)) => find(array, session).map_or(0, |index| array[index].1),
            Some(Repr::Tree(tree)) => tree.get(session),
        }
    }

    /// Sets the count of a session. Setting 0 removes it.
    pub fn set(&mut self, session: &SessionId, count: u64) {
        self.change(session, count, |before| before != count);
    }

    /// Raises the count of a session to `count` if it is lower.
    pub fn raise(&mut self, session: &SessionId, count: u64) {
        self.change(session, count, |before| before < count);
    }

    /// The sessions and their counts, in the order of the session ids.
    pub fn iter(&self) -> CountsIter<'_> {
        CountsIter::new(self)
    }

    /// The sessions in which these counts differ from `other`, each with its count here and there,
    /// in the order of the session ids.
    ///
    /// Parts that both share are passed over. So the versions of many counts are compared in about
    /// as many steps as they differ; but counts that share nothing are walked to their end.
    pub fn differences<'a>(&'a self, other: &'a Self) -> Differences<'a> {
        Differences::new(self, other)
    }

    /// Makes these counts share the memory of all parts that `base` has as well. Later comparisons
    /// with `base`, and with versions of it, pass over these parts.
    ///
    /// This walks all sessions, so it is for counts that have just been received.
    pub fn rebase(&mut self, base: &Self) {
        if self.is_shared_with(base) {
            return;
        }
        match (self.0.as_deref(), base.0.as_deref()) {
            (Some(Repr::Tree(tree)), Some(Repr::Tree(base))) => {
                let grafted = base.graft(&tree.to_entries());
                self.0 = Some(Arc::new(Repr::Tree(grafted)));
            }
            _ if self == base => self.clone_from(base),
            _ => {}
        }
    }

    /// Whether both share all their memory, and therefore are equal. Counts that do not may also be
    /// equal.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        match (self.0.as_ref(), other.0.as_ref()) {
            (Some(repr), Some(other)) => {
                Arc::ptr_eq(repr, other)
                    || matches!((&**repr, &**other), (Repr::Tree(tree), Repr::Tree(other)) if tree.is_same(other))
            }
            (None, None) => true,
            _ => false,
        }
    }

    /// The number of sessions.
    pub fn len(&self) -> usize {
        self.0.as_deref().map_or(0, Repr::len)
    }

    /// Whether no session is listed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn tree(&self) -> Option<&Tree> {
        match self.0.as_deref() {
            Some(Repr::Tree(tree)) => Some(tree),
            _ => None,
        }
    }

    /// The array, if it is one.
    fn flat(&self) -> Option<&[Count]> {
        match self.0.as_deref() {
            None => Some(&[]),
            Some(Repr::Flat(array)) => Some(array),
            Some(Repr::Tree(_)) => None,
        }
    }

    /// Sets the count of a session if that `changes` its count.
    fn change(&mut self, session: &SessionId, count: u64, changes: impl FnOnce(u64) -> bool) {
        match self.flat().map(|array| (array, find(array, session))) {
            Some((array, found)) => {
                if changes(found.map_or(0, |index| array[index].1)) {
                    self.change_array(session, found, count);
                }
            }
            None => {
                let before = self.get(session);
                if changes(before) {
                    self.change_tree(session, before, count);
                }
            }
        }
    }

    fn change_array(&mut self, session: &SessionId, found: Result<usize, usize>, count: u64) {
        let repr = self.0.get_or_insert_with(|| Arc::new(Repr::Flat(Vec::new())));
        let Repr::Flat(array) = Arc::make_mut(repr) else { return };
        match found {
            Ok(index) if count == 0 => drop(array.remove(index)),
            Ok(index) => array[index].1 = count,
            Err(index) => array.insert(index, (session.clone(), count)),
        }
        if array.len() > MAX_FLAT {
            self.rebuild();
        }
    }

    fn change_tree(&mut self, session: &SessionId, before: u64, count: u64) {
        let Some(Repr::Tree(tree)) = self.0.as_mut().map(Arc::make_mut) else { return };
        tree.set(session, before, count);
        if tree.len() < MIN_TREE {
            self.rebuild();
        }
    }

    /// Makes a tree of an array that has become too long, and the reverse.
    fn rebuild(&mut self) {
        *self = Self::from_sorted(std::mem::take(self).into_iter().collect());
    }

    /// Sorted counts, without zeros.
    fn from_sorted(counts: Vec<Count>) -> Self {
        Self(match counts.len() {
            0 => None,
            1..=MAX_FLAT => Some(Arc::new(Repr::Flat(counts))),
            _ => Some(Arc::new(Repr::Tree(Tree::from_sorted(counts)))),
        })
    }
}

impl Repr {
    fn len(&self) -> usize {
        match self {
            Self::Flat(array) => array.len(),
            Self::Tree(tree) => tree.len(),
        }
    }
}

fn find(array: &[Count], session: &SessionId) -> Result<usize, usize> {
    array.binary_search_by(|(other, _)| other.cmp(session))
}

impl PartialEq for SessionCounts {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.differences(other).next().is_none()
    }
}

impl Eq for SessionCounts {}

impl fmt::Debug for SessionCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionCounts")?;
        f.debug_map().entries(self).finish()
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
        Self::from_sorted(counts)
    }
}

impl<'a> FromIterator<(&'a SessionId, &'a u64)> for SessionCounts {
    fn from_iter<I: IntoIterator<Item = (&'a SessionId, &'a u64)>>(counts: I) -> Self {
        counts.into_iter().map(|(session, count)| (session.clone(), *count)).collect()
    }
}

impl<'a> IntoIterator for &'a SessionCounts {
    type Item = (&'a SessionId, &'a u64);
    type IntoIter = CountsIter<'a>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for SessionCounts {
    type Item = (SessionId, u64);
    type IntoIter = std::vec::IntoIter<(SessionId, u64)>;
    fn into_iter(self) -> Self::IntoIter {
        let array = match self.0.map(Arc::unwrap_or_clone) {
            None => Vec::new(),
            Some(Repr::Flat(array)) => array,
            Some(Repr::Tree(tree)) => tree.to_entries(),
        };
        array.into_iter()
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
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn session(name: &str) -> SessionId {
        SessionId::parse(&format!("co_z1_session_z{name}")).unwrap()
    }

    /// Many sessions, the order of whose names is not that of their numbers.
    fn numbered(number: u64) -> SessionId {
        let digits: String =
            (0..6).map(|digit| char::from(b'a' + (number >> (3 * digit) & 7) as u8)).collect();
        session(&digits)
    }

    fn of(counts: &BTreeMap<SessionId, u64>) -> SessionCounts {
        counts.iter().map(|(session, count)| (session.clone(), *count)).collect()
    }

    fn entries(counts: &SessionCounts) -> Vec<(SessionId, u64)> {
        counts.iter().map(|(session, count)| (session.clone(), *count)).collect()
    }

    #[test]
    fn counts_are_kept_sorted_and_without_zeros() {
        let (a, b) = (session("a"), session("b"));
        let mut counts = SessionCounts::new();
        counts.set(&b, 2);
        counts.set(&a, 1);
        assert_eq!(entries(&counts), [(a.clone(), 1), (b.clone(), 2)]);
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
        assert_eq!(entries(&counts), [(a, 1)]);
    }

    #[test]
    fn a_value_is_one_pointer() {
        assert_eq!(size_of::<SessionCounts>(), size_of::<usize>());
    }

    #[test]
    fn a_changed_copy_of_many_counts_costs_few_bytes() {
        for sessions in [1_000, 100_000] {
            let counts: SessionCounts = (0..sessions).map(|it| (numbered(it), 1)).collect();
            let mut copy = counts.clone();
            let info = allocation_counter::measure(|| copy.raise(&numbered(sessions / 3), 2));
            assert!(info.bytes_total < 2_500, "{} bytes of {sessions}", info.bytes_total);
            let (session, before, after) = counts.differences(&copy).next().unwrap();
            assert_eq!((session, before, after), (&numbered(sessions / 3), 1, 2));
            assert_eq!(counts.differences(&copy).within(200).count(), 1);
            assert!(!counts.differences(&copy).within(200).is_cut_off());
        }
    }

    #[test]
    fn rebased_counts_share_all_parts_that_are_the_same() {
        let counts = |of: std::ops::Range<u64>| -> SessionCounts {
            of.map(|it| (numbered(it), 1)).collect()
        };
        let base = counts(0..10_000);
        let mut same = counts(0..10_000);
        same.rebase(&base);
        assert!(same.is_shared_with(&base));
        let mut other = counts(1..10_001);
        other.set(&numbered(5_000), 2);
        other.rebase(&base);
        assert_eq!(base.differences(&other).within(500).count(), 3);
        assert_eq!(other.get(&numbered(5_000)), 2);
        assert_eq!((other.get(&numbered(0)), other.len()), (0, 10_000));
    }

    #[test]
    fn a_walk_that_takes_too_long_is_cut_off() {
        let counts = || (0..1_000).map(|it| (numbered(it), 1)).collect::<SessionCounts>();
        let (one, other) = (counts(), counts());
        let mut differences = one.differences(&other).within(100);
        assert!(differences.next().is_none() && differences.is_cut_off());
        let mut differences = one.differences(&other);
        assert!(differences.next().is_none() && !differences.is_cut_off());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Set(u64, u64),
        Raise(u64, u64),
        /// Goes on with a copy, and compares the present counts with it at the end.
        Keep,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let number = prop_oneof![3 => 0..40_u64, 1 => 0..1_200_u64];
        let step = (number, 0..4_u64, 0..16_u8).prop_map(|(number, count, kind)| match kind {
            0 => Step::Keep,
            1..8 => Step::Set(number, count),
            _ => Step::Raise(number, count),
        });
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn counts_are_a_sorted_map(start in 0..1_200_u64, steps in steps()) {
            let mut expected: BTreeMap<_, _> =
                (0..start).filter(|it| it % 3 == 0).map(|it| (numbered(it), 1 + it % 2)).collect();
            let mut counts = of(&expected);
            let mut kept = vec![(counts.clone(), expected.clone())];
            for step in steps {
                match step {
                    Step::Keep => kept.push((counts.clone(), expected.clone())),
                    Step::Set(number, count) => {
                        counts.set(&numbered(number), count);
                        expected.insert(numbered(number), count);
                    }
                    Step::Raise(number, count) => {
                        counts.raise(&numbered(number), count);
                        let before = expected.entry(numbered(number)).or_default();
                        *before = count.max(*before);
                    }
                }
                expected.retain(|_, count| *count > 0);
            }
            kept.push((counts.clone(), expected.clone()));
            for (version, of_version) in &kept {
                prop_assert_eq!(version.len(), of_version.len());
                prop_assert!(version.iter().eq(of_version.iter()));
                prop_assert!(version.clone().into_iter().eq(of_version.clone()));
                prop_assert!(of_version.iter().all(|(session, it)| version.get(session) == *it));
                let mut rebased = of(&expected);
                rebased.rebase(version);
                for other in [counts.clone(), of(&expected), rebased] {
                    let mut all: BTreeMap<&SessionId, (u64, u64)> =
                        of_version.iter().map(|(session, it)| (session, (*it, 0))).collect();
                    for (session, count) in &expected {
                        all.entry(session).or_default().1 = *count;
                    }
                    all.retain(|_, (here, there)| here != there);
                    let found = version.differences(&other).map(|(session, a, b)| (session, (a, b)));
                    prop_assert!(found.eq(all.clone()));
                    prop_assert_eq!(*version == other, all.is_empty());
                }
            }
        }
    }
}
