//! Walks over counts, in the order of the session ids.

use std::iter::FusedIterator;
use std::slice;

use super::tree::Node;
use super::{Count, Repr, SessionCounts};
use crate::id::SessionId;

/// The sessions of [`SessionCounts`] and their counts. See [`SessionCounts::iter`].
#[derive(Clone)]
pub struct CountsIter<'a> {
    cursor: Cursor<'a>,
    left: usize,
}

impl<'a> CountsIter<'a> {
    pub(super) fn new(counts: &'a SessionCounts) -> Self {
        Self { cursor: Cursor::new(counts), left: counts.len() }
    }
}

impl<'a> Iterator for CountsIter<'a> {
    type Item = (&'a SessionId, &'a u64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.cursor.front() {
                Front::Entry(session, count) => {
                    self.cursor.skip();
                    self.left -= 1;
                    return Some((session, count));
                }
                Front::Node(_) => self.cursor.enter(),
                Front::End => return None,
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for CountsIter<'_> {}
impl FusedIterator for CountsIter<'_> {}

/// Levels of the tree of a hundred thousand sessions.
const USUAL_LEVELS: usize = 4;

/// A place in counts.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    entries: Entries<'a>,
    /// The nodes behind them, the next ones last.
    open: Vec<slice::Iter<'a, Node>>,
}

/// The entries from the place on, up to the next node.
#[derive(Clone, Copy)]
enum Entries<'a> {
    Pairs(&'a [Count]),
    Leaf(&'a [SessionId], &'a [u64]),
}

impl Entries<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Pairs(pairs) => pairs.is_empty(),
            Self::Leaf(sessions, _) => sessions.is_empty(),
        }
    }
}

/// The part of counts that comes next.
pub(super) enum Front<'a> {
    Entry(&'a SessionId, &'a u64),
    Node(&'a Node),
    End,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(counts: &'a SessionCounts) -> Self {
        match counts.0.as_deref() {
            None => Self { entries: Entries::Pairs(&[]), open: Vec::new() },
            Some(Repr::Flat(array)) => Self { entries: Entries::Pairs(array), open: Vec::new() },
            Some(Repr::Tree(tree)) => {
                let mut open = Vec::with_capacity(USUAL_LEVELS);
                open.push(tree.children());
                Self { entries: Entries::Pairs(&[]), open }
            }
        }
    }

    #[inline]
    pub(super) fn front(&mut self) -> Front<'a> {
        match self.entries {
            Entries::Pairs([(session, count), ..]) | Entries::Leaf([session, ..], [count, ..]) => {
                return Front::Entry(session, count);
            }
            Entries::Pairs(_) | Entries::Leaf(..) => {}
        }
        while let Some(nodes) = self.open.last() {
            match nodes.as_slice().first() {
                Some(node) => return Front::Node(node),
                None => drop(self.open.pop()),
            }
        }
        Front::End
    }

    /// Passes over the front.
    #[inline]
    pub(super) fn skip(&mut self) {
        match &mut self.entries {
            Entries::Pairs([_, rest @ ..]) => self.entries = Entries::Pairs(rest),
            Entries::Leaf([_, sessions @ ..], [_, counts @ ..]) => {
                self.entries = Entries::Leaf(sessions, counts);
            }
            Entries::Pairs(_) | Entries::Leaf(..) => drop(self.next_node()),
        }
    }

    /// Goes to the first part of the node at the front.
    pub(super) fn enter(&mut self) {
        match self.next_node() {
            Some(Node::Leaf(leaf)) => self.entries = Entries::Leaf(leaf.sessions(), leaf.counts()),
            Some(Node::Branch(branch)) => self.open.push(branch.children()),
            None => {}
        }
    }

    /// Passes over what comes next here and in `other`, as long as it is the same memory, or the
    /// same sessions with the same counts. Returns whether there was something to pass over.
    pub(super) fn skip_same(&mut self, other: &mut Self) -> bool {
        match (&mut self.entries, &mut other.entries) {
            (Entries::Leaf(sessions, counts), Entries::Leaf(others, other_counts))
                if !sessions.is_empty() && std::ptr::eq(*sessions, *others) =>
            {
                let pairs = counts.iter().zip(other_counts.iter());
                let same = pairs.take_while(|(count, other)| count == other).count();
                (*sessions, *counts) = (&sessions[same..], &counts[same..]);
                (*others, *other_counts) = (&others[same..], &other_counts[same..]);
                same > 0
            }
            (mine, theirs) if mine.is_empty() && theirs.is_empty() => {
                let (Some(nodes), Some(others)) = (self.open.last_mut(), other.open.last_mut())
                else {
                    return false;
                };
                let (left, right) = (nodes.as_slice(), others.as_slice());
                let same = left.iter().zip(right).take_while(|(a, b)| a.is_same(b)).count();
                *nodes = left[same..].iter();
                *others = right[same..].iter();
                same > 0
            }
            _ => false,
        }
    }

    fn next_node(&mut self) -> Option<&'a Node> {
        self.open.last_mut().and_then(Iterator::next)
    }
}
