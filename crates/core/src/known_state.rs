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
//! Known states that were made from one another share most of their memory. The functions pass over
//! what two states share, so versions of a state with many sessions are compared and merged in
//! about as many steps as they differ. If one state has far more sessions than the other, the
//! sessions of the other are looked up in it. Otherwise both are walked side by side.

use downbeat_protocol::{CountsIter, Differences, KnownState, SessionCounts, SessionId};

/// A state with this many times the sessions of another is not walked: looking a session up costs
/// about as much as this many steps of a walk.
const FAR_MORE: usize = 8;

/// Steps in which two versions of counts are compared that differ in one session. A path through a
/// tree has about a hundred nodes and sessions beside it.
const STEPS: usize = 300;

/// Merges `source` into `target`: the header if either has it, and the higher count of each
/// session.
///
/// Both must be states of the same CoValue; the ids are not compared.
pub fn merge(target: &mut KnownState, source: &KnownState) {
    target.header |= source.header;
    merge_counts(&mut target.sessions, &source.sessions);
}

/// Raises the counts in `target` to those in `source` where `target` is behind.
///
/// If `source` has at least as much of each session, `target` becomes a clone of it.
pub fn merge_counts(target: &mut SessionCounts, source: &SessionCounts) {
    if target.is_shared_with(source) {
        return;
    }
    if has_far_more(target, source) {
        return raise_all(target, source.iter().map(|(session, count)| (session, *count)));
    }
    if has_far_more(source, target) {
        let before = std::mem::replace(target, source.clone());
        return raise_all(target, before.iter().map(|(session, count)| (session, *count)));
    }
    let (mut raised, mut is_ahead) = (0, false);
    for (_, in_target, in_source) in target.differences(source) {
        raised += usize::from(in_source > in_target);
        is_ahead |= in_target > in_source;
    }
    if raised == 0 {
        return;
    }
    if !is_ahead {
        return target.clone_from(source);
    }
    let higher = ahead(source, target).map(|(session, count, _)| (session.clone(), count));
    if raised * FAR_MORE < target.len() {
        let higher: Vec<_> = higher.collect();
        raise_all(target, higher.iter().map(|(session, count)| (session, *count)));
    } else {
        let before = target.iter().map(|(session, count)| (session.clone(), *count));
        // Of a repeated session the last count is kept.
        *target = before.chain(higher).collect();
    }
}

/// Whether `target` has every transaction that `current` has.
pub fn is_subset(current: &SessionCounts, target: &SessionCounts) -> bool {
    // No session has a count of 0.
    current.len() <= target.len() && ahead(current, target).next().is_none()
}

/// The sessions in which `current` is ahead of `target`, with the counts of both, in the order of
/// the session ids.
pub fn ahead<'a>(
    current: &'a SessionCounts,
    target: &'a SessionCounts,
) -> impl Iterator<Item = (&'a SessionId, u64, u64)> {
    let counts = if has_far_more(target, current) {
        Compared::LookedUp(current.iter(), target)
    } else {
        Compared::Walked(current.differences(target))
    };
    counts.filter(|(_, in_current, in_target)| in_current > in_target)
}

/// The sessions in which `current` is ahead of `target`, with the counts of `current`.
///
/// A peer with `target` lacks this content. The first message to it announces these counts
/// (`expectContentUntil`).
pub fn missing(current: &SessionCounts, target: &SessionCounts) -> SessionCounts {
    if current.is_shared_with(target) {
        return SessionCounts::new();
    }
    if has_far_more(current, target) {
        let mut missing = current.clone();
        for (session, count) in target {
            if missing.get(session) <= *count {
                missing.set(session, 0);
            }
        }
        return missing;
    }
    // Counting first costs less than a growing list. If everything is missing, as for a peer that
    // loads the CoValue for the first time, a shared copy is enough.
    match ahead(current, target).count() {
        0 => SessionCounts::new(),
        all if all == current.len() => current.clone(),
        some => {
            let ahead = ahead(current, target).take(some);
            let mut entries = Vec::with_capacity(some);
            entries.extend(ahead.map(|(session, ours, _)| (session.clone(), ours)));
            entries.into_iter().collect()
        }
    }
}

/// Whether merging `more` into `counts` gives `whole`. Gives up if it takes many steps to find that
/// out: many for the length of `more`, so that this never costs much more than to receive `more`.
///
/// With nothing in `more`, this is whether `counts` equals `whole`.
pub fn completes(counts: &SessionCounts, more: &SessionCounts, whole: &SessionCounts) -> bool {
    if !is_subset(more, whole) {
        return false;
    }
    let mut differences = counts.differences(whole).within(STEPS * (1 + more.len()));
    differences.all(|(session, before, after)| before < after && more.get(session) == after)
        && !differences.is_cut_off()
}

/// Sessions of two states, each with its count in both.
enum Compared<'a> {
    LookedUp(CountsIter<'a>, &'a SessionCounts),
    Walked(Differences<'a>),
}

impl<'a> Iterator for Compared<'a> {
    type Item = (&'a SessionId, u64, u64);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::LookedUp(sessions, other) => {
                sessions.next().map(|(session, count)| (session, *count, other.get(session)))
            }
            Self::Walked(differences) => differences.next(),
        }
    }
}

fn has_far_more(counts: &SessionCounts, than: &SessionCounts) -> bool {
    counts.len() > than.len() * FAR_MORE
}

fn raise_all<'a>(
    target: &mut SessionCounts,
    counts: impl IntoIterator<Item = (&'a SessionId, u64)>,
) {
    for (session, count) in counts {
        target.raise(session, count);
    }
}

#[cfg(test)]
mod tests {
    use downbeat_protocol::{CoValueId, take_steps};
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

    /// States of many sessions: two versions of one, which share memory, or separate ones.
    fn versions() -> impl Strategy<Value = (SessionCounts, SessionCounts)> {
        let changes = || prop::collection::vec((0..400_u64, 0..4_u64), 0..60);
        (0..300_u64, 0..300_u64, changes(), changes(), any::<bool>()).prop_map(
            |(sessions, others, one, other, is_shared)| {
                let start = many(sessions);
                let apart = if is_shared { start.clone() } else { many(others) };
                (changed(start, one), changed(apart, other))
            },
        )
    }

    fn numbered(number: u64) -> SessionId {
        SessionId::parse(
            &format!("co_z1_session_z{}", 1111 + number % 5 * 2222 + number).replace('0', "a"),
        )
        .unwrap()
    }

    fn many(sessions: u64) -> SessionCounts {
        (0..sessions).map(|number| (numbered(number), 1 + number % 3)).collect()
    }

    fn changed(mut counts: SessionCounts, changes: Vec<(u64, u64)>) -> SessionCounts {
        for (number, count) in changes {
            counts.set(&numbered(number), count);
        }
        counts
    }

    /// One of few sessions or of many, and another that may share memory with it.
    fn pair() -> impl Strategy<Value = (SessionCounts, SessionCounts)> {
        prop_oneof![
            (counts(), counts()),
            versions(),
            (counts(), versions()).prop_map(|(few, (many, _))| (few, many))
        ]
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
        fn a_subset_is_what_changes_nothing_when_merged((a, b) in pair()) {
            prop_assert_eq!(is_subset(&a, &b), merged_counts(&b, &a) == b);
        }

        #[test]
        fn the_missing_part_merged_reaches_the_source((a, b) in pair()) {
            prop_assert_eq!(merged_counts(&b, &missing(&a, &b)), merged_counts(&b, &a));
        }

        #[test]
        fn nothing_is_missing_exactly_from_a_superset((a, b) in pair()) {
            prop_assert_eq!(missing(&a, &b).is_empty(), is_subset(&a, &b));
            prop_assert!(missing(&a, &a).is_empty());
        }

        #[test]
        fn only_what_the_target_lacks_is_missing((a, b) in pair()) {
            for (a, b) in [(&a, &b), (&b, &a)] {
                for (session, count) in &missing(a, b) {
                    prop_assert_eq!(*count, a.get(session));
                    prop_assert!(*count > b.get(session));
                }
            }
        }

        #[test]
        fn merged_counts_are_the_higher_ones((a, b) in pair()) {
            let both = merged_counts(&a, &b);
            prop_assert_eq!(&both, &merged_counts(&b, &a));
            prop_assert!(is_subset(&a, &both) && is_subset(&b, &both));
            prop_assert!(both.iter().all(|(session, it)| *it == a.get(session).max(b.get(session))));
        }

        #[test]
        fn what_completes_a_state_is_what_gives_it_when_merged((a, b) in pair()) {
            let both = merged_counts(&a, &b);
            // Separate states of many sessions may be given up.
            let is_few = a.len().max(b.len()) < 20;
            prop_assert!(completes(&a, &b, &both) || !is_few);
            prop_assert!(completes(&a, &missing(&b, &a), &both) || !is_few);
            for (more, whole) in [(&b, &a), (&b, &both), (&a, &b)] {
                if completes(&a, more, whole) {
                    prop_assert_eq!(&merged_counts(&a, more), whole);
                }
            }
        }

        #[test]
        fn sharing_memory_changes_no_count((a, b) in pair()) {
            let mut rebased = a.clone();
            rebased.rebase(&b);
            prop_assert_eq!(&rebased, &a);
            prop_assert_eq!(completes(&rebased, &SessionCounts::new(), &b), a == b);
        }
    }

    fn parsed_again(counts: &SessionCounts) -> SessionCounts {
        let parse = |id: &SessionId| SessionId::parse(id.as_str()).unwrap();
        counts.iter().map(|(session, count)| (parse(session), *count)).collect()
    }

    #[test]
    fn a_rebased_state_is_compared_in_few_steps() {
        let ours = many(10_000);
        let mut theirs = parsed_again(&changed(ours.clone(), vec![(7, 0), (8, 9), (20_000, 1)]));
        take_steps();
        assert_eq!(missing(&ours, &theirs).len(), 1);
        assert!(take_steps() > 10_000, "they share nothing");
        theirs.rebase(&ours);
        take_steps();
        assert_eq!(missing(&ours, &theirs).len(), 1);
        assert_eq!(missing(&theirs, &ours).len(), 2);
        merge_counts(&mut theirs, &ours);
        assert!(take_steps() < 2_000);
    }

    #[test]
    fn a_state_of_few_sessions_is_looked_up_in_one_of_many() {
        let (few, lots) = (many(10), parsed_again(&many(10_000)));
        take_steps();
        assert!(is_subset(&few, &lots) && !is_subset(&lots, &few));
        assert!(missing(&few, &lots).is_empty());
        assert_eq!(missing(&lots, &few).len(), lots.len() - few.len());
        assert_eq!(merged_counts(&few, &lots), lots);
        // Only the last comparison, of equal states, walks.
        assert!(take_steps() < 30_000);
    }
}
