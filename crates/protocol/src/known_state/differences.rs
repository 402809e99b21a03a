//! The sessions in which two versions of counts differ.

use std::cmp::Ordering;
use std::iter::FusedIterator;

use super::iter::{Cursor, Front};
use super::tree::Node;
use super::{Count, SessionCounts};
use crate::id::SessionId;

/// The sessions in which two [`SessionCounts`] differ. See [`SessionCounts::differences`].
pub struct Differences<'a>(Walk<'a>);

enum Walk<'a> {
    /// They differ in this session at most.
    One(Option<Difference<'a>>),
    /// Both are arrays.
    Flat(&'a [Count], &'a [Count]),
    Deep(Deep<'a>),
}

struct Deep<'a> {
    left: Cursor<'a>,
    right: Cursor<'a>,
    /// Steps that may still be taken.
    limit: usize,
}

/// A session, its count in the left counts, and that in the right.
pub(super) type Difference<'a> = (&'a SessionId, u64, u64);

impl<'a> Differences<'a> {
    pub(super) fn new(left: &'a SessionCounts, right: &'a SessionCounts) -> Self {
        if left.is_shared_with(right) {
            return Self(Walk::One(None));
        }
        if let (Some(left), Some(right)) = (left.tree(), right.tree())
            && let Some(item) = left.only_difference(right)
        {
            return Self(Walk::One(Some(item).filter(|(_, left, right)| left != right)));
        }
        Self(match (left.flat(), right.flat()) {
            (Some(left), Some(right)) => Walk::Flat(left, right),
            _ => Walk::Deep(Deep {
                left: Cursor::new(left),
                right: Cursor::new(right),
                limit: usize::MAX,
            }),
        })
    }

    /// Ends the walk after so many steps, each to a session or to a part of a tree. Counts of few
    /// sessions are always walked to their end.
    #[must_use]
    pub fn within(mut self, steps: usize) -> Self {
        if let Walk::Deep(deep) = &mut self.0 {
            deep.limit = steps;
        }
        self
    }

    /// Whether the walk ended because of [`Self::within`].
    pub fn is_cut_off(&self) -> bool {
        matches!(&self.0, Walk::Deep(deep) if deep.limit == 0)
    }
}

impl<'a> Iterator for Differences<'a> {
    type Item = Difference<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Walk::One(item) => item.take(),
            Walk::Flat(left, right) => next_flat(left, right),
            Walk::Deep(deep) => deep.next(),
        }
    }
}

impl FusedIterator for Differences<'_> {}

fn next_flat<'a>(left: &mut &'a [Count], right: &mut &'a [Count]) -> Option<Difference<'a>> {
    loop {
        let order = match (left.first(), right.first()) {
            (Some((left, _)), Some((right, _))) => left.cmp(right),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let mut item = None;
        if order.is_le()
            && let Some(((session, count), rest)) = left.split_first()
        {
            item = Some((session, *count, 0));
            *left = rest;
        }
        if order.is_ge()
            && let Some(((session, count), rest)) = right.split_first()
        {
            item = Some((session, item.map_or(0, |(_, in_left, _)| in_left), *count));
            *right = rest;
        }
        match item {
            Some((_, in_left, in_right)) if in_left == in_right => {}
            item => return item,
        }
    }
}

impl<'a> Deep<'a> {
    fn next(&mut self) -> Option<Difference<'a>> {
        while self.limit > 0 {
            self.limit -= 1;
            #[cfg(feature = "count-steps")]
            steps::add();
            if self.left.skip_same(&mut self.right) {
                continue;
            }
            let (session, in_left, in_right) = match (self.left.front(), self.right.front()) {
                (Front::End, Front::End) => {
                    self.limit += 1;
                    return None;
                }
                (Front::Node(left), Front::Node(right)) => {
                    self.enter(left, right);
                    continue;
                }
                (Front::Node(node), Front::Entry(session, _)) if session >= node.least() => {
                    self.left.enter();
                    continue;
                }
                (Front::Entry(session, _), Front::Node(node)) if session >= node.least() => {
                    self.right.enter();
                    continue;
                }
                (Front::Node(_), Front::End) => {
                    self.left.enter();
                    continue;
                }
                (Front::End, Front::Node(_)) => {
                    self.right.enter();
                    continue;
                }
                (Front::Entry(left, in_left), Front::Entry(right, in_right)) => {
                    self.skip_entries(left.cmp(right), (left, *in_left), (right, *in_right))
                }
                (Front::Entry(session, count), Front::Node(_) | Front::End) => {
                    self.left.skip();
                    (session, *count, 0)
                }
                (Front::Node(_) | Front::End, Front::Entry(session, count)) => {
                    self.right.skip();
                    (session, 0, *count)
                }
            };
            if in_left != in_right {
                return Some((session, in_left, in_right));
            }
        }
        None
    }

    /// Enters one of two parts, or both. A part that both sides have comes to both fronts at the
    /// same time, unless one of them is entered too early.
    fn enter(&mut self, left: &Node, right: &Node) {
        let order = left.least().cmp(right.least()).then(right.level().cmp(&left.level()));
        if order.is_le() {
            self.left.enter();
        }
        if order.is_ge() {
            self.right.enter();
        }
    }

    fn skip_entries(
        &mut self,
        order: Ordering,
        (left, in_left): (&'a SessionId, u64),
        (right, in_right): (&'a SessionId, u64),
    ) -> Difference<'a> {
        if order.is_le() {
            self.left.skip();
        }
        if order.is_ge() {
            self.right.skip();
        }
        match order {
            Ordering::Less => (left, in_left, 0),
            Ordering::Equal => (left, in_left, in_right),
            Ordering::Greater => (right, 0, in_right),
        }
    }
}

/// Counts steps, for tests that bound the work of comparisons.
#[cfg(feature = "count-steps")]
pub(crate) mod steps {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn add() {
        STEPS.set(STEPS.get() + 1);
    }

    /// Steps of all comparisons of trees on this thread since the last call.
    pub fn take_steps() -> u64 {
        STEPS.take()
    }
}
