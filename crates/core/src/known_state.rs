//! Merging, comparing and subtracting known states.
//!
//! Known states form a lattice under "has at least": [`merge`] is its join, [`is_subset`] its
//! order. The tests check these laws on random states:
//!
//! - Merging is idempotent, commutative and associative, and never lowers a count.
//! - `a` is a subset of `b` exactly if merging `a` into `b` changes nothing.
//! - [`missing`]`(a, b)` is empty exactly if `a` is a subset of `b`. Merging it into `b` has the
//!   same result as merging `a`. It lists no session in which `b` is not behind.
//!
//! Rules: `knownState.ts` of the reference (`combineKnownStates`, `isKnownStateSubsetOf`,
//! `getKnownStateToSend`).
//!
//! All functions walk both sorted lists once, side by side.

use std::cmp::Ordering;

use downbeat_protocol::{KnownState, SessionCounts, SessionId};

/// Merges `source` into `target`: the header if either has it, and the higher count of each
/// session.
///
/// Both must be states of the same CoValue; the ids are not compared.
pub fn merge(target: &mut KnownState, source: &KnownState) {
    target.header |= source.header;
    merge_counts(&mut target.sessions, &source.sessions);
}

/// Raises the counts in `target` to those in `source` where `target` is behind.
pub fn merge_counts(target: &mut SessionCounts, source: &SessionCounts) {
    if is_subset(source, target) {
        return;
    }
    if is_subset(target, source) {
        target.clone_from(source);
    } else {
        let mut merged = Vec::with_capacity(target.len().max(source.len()));
        for (session, in_target, in_source) in Join::new(target, source) {
            merged.push((session.clone(), in_target.max(in_source)));
        }
        *target = merged.into_iter().collect();
    }
}

/// Whether `target` has every transaction that `current` has.
pub fn is_subset(current: &SessionCounts, target: &SessionCounts) -> bool {
    current.is_shared_with(target)
        || Join::new(current, target).all(|(_, in_current, in_target)| in_current <= in_target)
}

/// The sessions in which `current` is ahead of `target`, with the counts of `current`.
///
/// A peer with `target` lacks this content. The first message to it announces these counts
/// (`expectContentUntil`).
pub fn missing(current: &SessionCounts, target: &SessionCounts) -> SessionCounts {
    if current.is_shared_with(target) {
        return SessionCounts::new();
    }
    let ahead = || Join::new(current, target).filter(|(_, ours, theirs)| ours > theirs);
    // Counting first costs less than a growing list. If everything is missing, as for a peer that
    // loads the CoValue for the first time, a shared copy is enough.
    match ahead().count() {
        0 => SessionCounts::new(),
        all if all == current.len() => current.clone(),
        some => {
            let mut entries = Vec::with_capacity(some);
            entries.extend(ahead().map(|(session, ours, _)| (session.clone(), ours)));
            entries.into_iter().collect()
        }
    }
}

/// Iterates over the sessions of two sorted lists, each with its count in the left and the right
/// list.
struct Join<'a> {
    left: &'a [(SessionId, u64)],
    right: &'a [(SessionId, u64)],
}

impl<'a> Join<'a> {
    fn new(left: &'a SessionCounts, right: &'a SessionCounts) -> Self {
        Self { left: left.as_slice(), right: right.as_slice() }
    }
}

impl<'a> Iterator for Join<'a> {
    type Item = (&'a SessionId, u64, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.left.first(), self.right.first()) {
            (Some((left, _)), Some((right, _))) => left.cmp(right),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let mut item = None;
        if order.is_le()
            && let Some(((session, count), rest)) = self.left.split_first()
        {
            item = Some((session, *count, 0));
            self.left = rest;
        }
        if order.is_ge()
            && let Some(((session, count), rest)) = self.right.split_first()
        {
            item = Some((session, item.map_or(0, |(_, in_left, _)| in_left), *count));
            self.right = rest;
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use downbeat_protocol::CoValueId;
    use proptest::prelude::*;

    use super::*;

    /// Few sessions and small counts, so that states often overlap, contain or equal each other.
    fn counts() -> impl Strategy<Value = SessionCounts> {
        prop::collection::vec((0..8_u8, 0..4_u64), 0..10).prop_map(|entries| {
            entries
                .into_iter()
                .map(|(session, count)| {
                    let id = format!("co_z{}_session_z{}", 1 + session / 3, 1 + session % 3);
                    (SessionId::parse(&id).unwrap(), count)
                })
                .collect()
        })
    }

    fn state() -> impl Strategy<Value = KnownState> {
        (any::<bool>(), counts()).prop_map(|(header, sessions)| KnownState {
            id: CoValueId::parse("co_z1").unwrap(),
            header,
            sessions,
        })
    }

    fn merged(target: &KnownState, source: &KnownState) -> KnownState {
        let mut target = target.clone();
        merge(&mut target, source);
        target
    }

    fn merged_counts(target: &SessionCounts, source: &SessionCounts) -> SessionCounts {
        let mut target = target.clone();
        merge_counts(&mut target, source);
        target
    }

    proptest! {
        #[test]
        fn merging_is_idempotent(a in state()) {
            prop_assert_eq!(merged(&a, &a), a);
        }

        #[test]
        fn merging_is_commutative(a in state(), b in state()) {
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        }

        #[test]
        fn merging_is_associative(a in state(), b in state(), c in state()) {
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        }

        #[test]
        fn merging_keeps_all_that_either_has(a in state(), b in state()) {
            let both = merged(&a, &b);
            prop_assert_eq!(both.header, a.header || b.header);
            prop_assert!(is_subset(&a.sessions, &both.sessions));
            prop_assert!(is_subset(&b.sessions, &both.sessions));
            for (session, count) in &both.sessions {
                prop_assert_eq!(*count, a.sessions.get(session).max(b.sessions.get(session)));
            }
        }

        #[test]
        fn a_subset_is_what_changes_nothing_when_merged(a in counts(), b in counts()) {
            prop_assert_eq!(is_subset(&a, &b), merged_counts(&b, &a) == b);
        }

        #[test]
        fn the_missing_part_merged_reaches_the_source(a in counts(), b in counts()) {
            prop_assert_eq!(merged_counts(&b, &missing(&a, &b)), merged_counts(&b, &a));
        }

        #[test]
        fn nothing_is_missing_exactly_from_a_superset(a in counts(), b in counts()) {
            prop_assert_eq!(missing(&a, &b).is_empty(), is_subset(&a, &b));
            prop_assert!(missing(&a, &a).is_empty());
        }

        #[test]
        fn only_what_the_target_lacks_is_missing(a in counts(), b in counts()) {
            for (session, count) in &missing(&a, &b) {
                prop_assert_eq!(*count, a.get(session));
                prop_assert!(*count > b.get(session));
            }
        }
    }
}
