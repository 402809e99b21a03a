//! The counts of many sessions: a tree whose versions share the parts that they have in common.
//!
//! A B-tree. To change a count copies one leaf and the branches above it, so a new version of the
//! counts of 100,000 sessions costs a few hundred bytes. A leaf shares its session ids with its
//! copies, because counts change far more often than sessions are added.

use std::sync::Arc;

use super::Count;
use super::differences::Difference;
use crate::id::SessionId;

/// Sessions in a leaf.
const LEAF: usize = 32;

/// Children of a branch.
const FANOUT: usize = 16;

/// A tree.
#[derive(Clone)]
pub(super) struct Tree {
    root: Arc<Branch>,
    last: Option<LastChange>,
}

/// The change that made a tree of another version. Most comparisons are between a version and the
/// one that it was made from, so their difference is kept.
#[derive(Clone)]
struct LastChange {
    base: Arc<Branch>,
    session: SessionId,
    before: u64,
    after: u64,
}

/// A part of a tree.
#[derive(Clone)]
pub(super) enum Node {
    Leaf(Arc<Leaf>),
    Branch(Arc<Branch>),
}

#[derive(Clone)]
pub(super) struct Leaf {
    /// Sorted, and at least one.
    sessions: Arc<[SessionId]>,
    /// The count of each session. The rest is unused.
    counts: [u64; LEAF],
}

#[derive(Clone)]
pub(super) struct Branch {
    /// The number of sessions below.
    len: usize,
    /// The number of levels below. All leaves are at level 0.
    level: u32,
    /// The least session of each child.
    least: Arc<[SessionId]>,
    children: Vec<Node>,
}

/// The effect of a change on a node.
enum Change {
    /// The number of sessions is the same.
    None,
    Inserted,
    /// A session was inserted, and the upper half of the node has to become a node of its own.
    Split(Node),
    Removed,
    /// The last session was removed.
    Emptied,
}

impl Tree {
    /// Builds a tree from sorted counts, without zeros, and at least one.
    pub(super) fn from_sorted(counts: Vec<Count>) -> Self {
        Self::of_nodes(leaves_of(counts).collect())
    }

    /// Builds a tree of nodes that are all at one level, and at least one.
    fn of_nodes(mut nodes: Vec<Node>) -> Self {
        loop {
            nodes = branches_of(nodes).collect();
            if let [Node::Branch(root)] = &nodes[..] {
                return Self { root: Arc::clone(root), last: None };
            }
        }
    }

    /// Builds a tree of sorted counts, without zeros, and at least one, that shares the parts which
    /// this tree has as well.
    pub(super) fn graft(&self, counts: &[Count]) -> Self {
        let mut rest = counts;
        let mut nodes = self.root.graft(None, &mut rest);
        while let [Node::Branch(root)] = &nodes[..] {
            let root = Arc::clone(root);
            match &root.children[..] {
                [child @ Node::Branch(_)] => nodes = vec![child.clone()],
                _ => return Self { root, last: None },
            }
        }
        Self::of_nodes(nodes)
    }

    pub(super) fn len(&self) -> usize {
        self.root.len
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.root, &other.root)
    }

    pub(super) fn children(&self) -> std::slice::Iter<'_, Node> {
        self.root.children.iter()
    }

    pub(super) fn to_entries(&self) -> Vec<Count> {
        let mut entries = Vec::with_capacity(self.len());
        let mut open = vec![self.children()];
        while let Some(nodes) = open.last_mut() {
            match nodes.next() {
                Some(Node::Branch(branch)) => open.push(branch.children()),
                Some(Node::Leaf(leaf)) => entries.extend(leaf.entries()),
                None => drop(open.pop()),
            }
        }
        entries
    }

    pub(super) fn get(&self, session: &SessionId) -> u64 {
        let mut branch = &self.root;
        loop {
            match &branch.children[branch.child_of(session)] {
                Node::Branch(next) => branch = next,
                Node::Leaf(leaf) => {
                    let found = leaf.sessions.binary_search(session);
                    return found.map_or(0, |index| leaf.counts[index]);
                }
            }
        }
    }

    /// Sets the count of a session, which was `before`. At least one session must be left.
    pub(super) fn set(&mut self, session: &SessionId, before: u64, after: u64) {
        // Without another version, nothing is compared with the one before.
        let base = (Arc::strong_count(&self.root) > 1).then(|| Arc::clone(&self.root));
        self.last = base.map(|base| LastChange { base, session: session.clone(), before, after });
        let root = Arc::make_mut(&mut self.root);
        if after == 0 {
            root.remove(session);
        } else if let Change::Split(right) = root.insert(session, after) {
            let left = Node::Branch(Arc::clone(&self.root));
            self.root = Arc::new(Branch::new(vec![left, right]));
        }
    }

    /// The one session in which the trees differ, if one was made from the other by one change, or
    /// both from a third one by changing the same session: the session, and its counts. The counts
    /// may be the same.
    pub(super) fn only_difference<'a>(&'a self, other: &'a Self) -> Option<Difference<'a>> {
        let of = |tree: &'a Self, base: &Arc<Branch>| {
            tree.last.as_ref().filter(|last| Arc::ptr_eq(&last.base, base))
        };
        if let Some(last) = of(self, &other.root) {
            return Some((&last.session, last.after, last.before));
        }
        if let Some(last) = of(other, &self.root) {
            return Some((&last.session, last.before, last.after));
        }
        let mine = self.last.as_ref()?;
        let theirs = of(other, &mine.base).filter(|theirs| theirs.session == mine.session)?;
        Some((&mine.session, mine.after, theirs.after))
    }
}

impl Node {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Leaf(leaf), Self::Leaf(other)) => Arc::ptr_eq(leaf, other),
            (Self::Branch(branch), Self::Branch(other)) => Arc::ptr_eq(branch, other),
            _ => false,
        }
    }

    /// The least session.
    pub(super) fn least(&self) -> &SessionId {
        match self {
            Self::Leaf(leaf) => &leaf.sessions[0],
            Self::Branch(branch) => &branch.least[0],
        }
    }

    pub(super) fn level(&self) -> u32 {
        match self {
            Self::Leaf(_) => 0,
            Self::Branch(branch) => branch.level,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.sessions.len(),
            Self::Branch(branch) => branch.len,
        }
    }

    /// Takes the counts below `bound` out of `rest`, and builds nodes of them at the level of this
    /// node: this one, if it has the same.
    fn graft(&self, bound: Option<&SessionId>, rest: &mut &[Count]) -> Vec<Self> {
        match self {
            Self::Leaf(leaf) => {
                let len = bound.map_or(rest.len(), |bound| {
                    rest.partition_point(|(session, _)| session < bound)
                });
                let (counts, others) = rest.split_at(len);
                *rest = others;
                leaf.graft(counts)
            }
            Self::Branch(branch) => branch.graft(bound, rest),
        }
    }

    fn insert(&mut self, session: &SessionId, count: u64) -> Change {
        match self {
            Self::Leaf(leaf) => Arc::make_mut(leaf).insert(session, count),
            Self::Branch(branch) => Arc::make_mut(branch).insert(session, count),
        }
    }

    fn remove(&mut self, session: &SessionId) -> Change {
        match self {
            Self::Leaf(leaf) => Arc::make_mut(leaf).remove(session),
            Self::Branch(branch) => Arc::make_mut(branch).remove(session),
        }
    }
}

impl Leaf {
    fn new(entries: Vec<Count>) -> Self {
        let mut counts = [0; LEAF];
        for (count, entry) in counts.iter_mut().zip(&entries) {
            *count = entry.1;
        }
        Self { sessions: entries.into_iter().map(|(session, _)| session).collect(), counts }
    }

    pub(super) fn sessions(&self) -> &[SessionId] {
        &self.sessions
    }

    pub(super) fn counts(&self) -> &[u64] {
        &self.counts[..self.sessions.len()]
    }

    /// Nodes of these counts: this leaf, if it has the same.
    fn graft(self: &Arc<Self>, counts: &[Count]) -> Vec<Node> {
        if !counts.iter().map(|(session, _)| session).eq(self.sessions.iter()) {
            return leaves_of(counts.to_vec()).collect();
        }
        if counts.iter().map(|(_, count)| count).eq(self.counts()) {
            return vec![Node::Leaf(Arc::clone(self))];
        }
        let mut leaf = Self::clone(self);
        for (count, (_, new)) in leaf.counts.iter_mut().zip(counts) {
            *count = *new;
        }
        vec![Node::Leaf(Arc::new(leaf))]
    }

    fn entries(&self) -> impl Iterator<Item = Count> {
        self.sessions.iter().cloned().zip(self.counts.iter().copied())
    }

    fn insert(&mut self, session: &SessionId, count: u64) -> Change {
        let index = match self.sessions.binary_search(session) {
            Ok(index) => {
                self.counts[index] = count;
                return Change::None;
            }
            Err(index) => index,
        };
        let mut entries: Vec<_> = self.entries().collect();
        entries.insert(index, (session.clone(), count));
        if entries.len() <= LEAF {
            *self = Self::new(entries);
            return Change::Inserted;
        }
        let right = entries.split_off(split_at(index, LEAF));
        *self = Self::new(entries);
        Change::Split(Node::Leaf(Arc::new(Self::new(right))))
    }

    fn remove(&mut self, session: &SessionId) -> Change {
        let Ok(index) = self.sessions.binary_search(session) else { return Change::None };
        let mut entries: Vec<_> = self.entries().collect();
        entries.remove(index);
        let is_empty = entries.is_empty();
        *self = Self::new(entries);
        if is_empty { Change::Emptied } else { Change::Removed }
    }
}

impl Branch {
    fn new(children: Vec<Node>) -> Self {
        Self {
            len: children.iter().map(Node::len).sum(),
            level: 1 + children.first().map_or(0, Node::level),
            least: children.iter().map(|child| child.least().clone()).collect(),
            children,
        }
    }

    pub(super) fn children(&self) -> std::slice::Iter<'_, Node> {
        self.children.iter()
    }

    /// See [`Node::graft`].
    fn graft(self: &Arc<Self>, bound: Option<&SessionId>, rest: &mut &[Count]) -> Vec<Node> {
        let mut nodes = Vec::with_capacity(self.children.len());
        for (index, child) in self.children.iter().enumerate() {
            let bound = self.least.get(index + 1).or(bound);
            let Some((next, _)) = rest.first() else { break };
            if bound.is_none_or(|bound| next < bound) {
                nodes.extend(child.graft(bound, rest));
            }
        }
        let is_same = nodes.len() == self.children.len()
            && nodes.iter().zip(&self.children).all(|(node, child)| node.is_same(child));
        if is_same {
            return vec![Node::Branch(Arc::clone(self))];
        }
        if nodes.len() <= FANOUT && !nodes.is_empty() {
            return vec![Node::Branch(Arc::new(Self::new(nodes)))];
        }
        branches_of(nodes).collect()
    }

    /// The child that has a session, or gets it.
    fn child_of(&self, session: &SessionId) -> usize {
        self.least.partition_point(|least| least <= session).saturating_sub(1)
    }

    fn insert(&mut self, session: &SessionId, count: u64) -> Change {
        let index = self.child_of(session);
        let change = self.children[index].insert(session, count);
        match change {
            Change::None | Change::Removed | Change::Emptied => return Change::None,
            Change::Inserted if *session >= self.least[index] => {
                self.len += 1;
                return Change::Inserted;
            }
            Change::Inserted => {}
            Change::Split(right) => self.children.insert(index + 1, right),
        }
        let mut children = std::mem::take(&mut self.children);
        if children.len() <= FANOUT {
            *self = Self::new(children);
            return Change::Inserted;
        }
        let right = children.split_off(split_at(index + 1, FANOUT));
        *self = Self::new(children);
        Change::Split(Node::Branch(Arc::new(Self::new(right))))
    }

    fn remove(&mut self, session: &SessionId) -> Change {
        let index = self.child_of(session);
        match self.children[index].remove(session) {
            Change::Removed if self.children[index].least() == &self.least[index] => {
                self.len -= 1;
                return Change::Removed;
            }
            Change::Removed => {}
            Change::Emptied => drop(self.children.remove(index)),
            Change::None | Change::Inserted | Change::Split(_) => return Change::None,
        }
        if self.children.is_empty() {
            return Change::Emptied;
        }
        *self = Self::new(std::mem::take(&mut self.children));
        Change::Removed
    }
}

/// Leaves of sorted counts. A quarter of each stays free for what is inserted.
fn leaves_of(counts: Vec<Count>) -> impl Iterator<Item = Node> {
    let leaves = chunks(counts.into_iter(), LEAF - LEAF / 4);
    leaves.map(|leaf| Node::Leaf(Arc::new(Leaf::new(leaf))))
}

/// The branches above nodes that are all at one level. A quarter of each stays free.
fn branches_of(nodes: Vec<Node>) -> impl Iterator<Item = Node> {
    let branches = chunks(nodes.into_iter(), FANOUT - FANOUT / 4);
    branches.map(|nodes| Node::Branch(Arc::new(Branch::new(nodes))))
}

/// Where a full node is split into which something is inserted at `index`. A node that grows at its
/// end stays full, so that sessions which come in their order fill the nodes.
fn split_at(index: usize, max: usize) -> usize {
    if index == max { max } else { max / 2 }
}

/// Cuts items into vectors of `size`.
fn chunks<T>(mut items: impl Iterator<Item = T>, size: usize) -> impl Iterator<Item = Vec<T>> {
    std::iter::from_fn(move || {
        let chunk: Vec<T> = items.by_ref().take(size).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}
