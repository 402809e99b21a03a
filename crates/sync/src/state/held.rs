//! Content that waits for the CoValues that it depends on.
//!
//! It waits in the entry of its CoValue, in a queue for each peer that sent any, so that the
//! dependencies that one peer names delay only that peer's content.

use std::collections::{BTreeMap, VecDeque};

use downbeat_protocol::CoValueId;
use rustc_hash::FxHashSet;

use crate::event::{Millis, PeerId};
use crate::rejection::Rejection;
use crate::state::pending::PendingContent;

/// The dependencies of content.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Those that are here.
    pub here: Vec<CoValueId>,
    /// Those that are not here, and that the content has to wait for.
    pub missing: Vec<CoValueId>,
    /// The missing ones that wait for this content themselves.
    pub circles: Vec<CoValueId>,
}

/// Content that waits for a dependency.
#[derive(Debug)]
pub(crate) struct Held {
    pub pending: PendingContent,
    /// The bytes that count against the peer's bound.
    pub bytes: u64,
    /// Why it was refused, if that may change.
    pub refused: Option<Rejection>,
}

/// The content of one CoValue from one peer that waits, in the order in which it came.
#[derive(Debug, Default)]
pub(crate) struct HeldQueue {
    contents: VecDeque<Held>,
    /// All dependencies, here or not, so that those that are here stay in memory.
    awaited: Vec<CoValueId>,
    /// Those that are not here yet.
    missing: FxHashSet<CoValueId>,
    /// Whether any of the content was refused.
    has_refused: bool,
}

/// The queues of one CoValue, by peer.
#[derive(Debug, Default)]
pub(crate) struct HeldQueues {
    queues: BTreeMap<PeerId, HeldQueue>,
    /// The time of the timer that is set for them.
    timer: Option<Millis>,
}

impl HeldQueue {
    /// All dependencies, here or not.
    pub(crate) fn awaited(&self) -> &[CoValueId] {
        &self.awaited
    }

    /// The dependencies that are not here yet, in the order in which they became known.
    pub(crate) fn missing(&self) -> impl Iterator<Item = CoValueId> {
        self.awaited.iter().copied().filter(|id| self.missing.contains(id))
    }

    pub(crate) fn missing_count(&self) -> usize {
        self.missing.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.contents.iter().map(|held| held.bytes).sum()
    }

    pub(crate) fn into_contents(self) -> impl Iterator<Item = Held> {
        self.contents.into_iter()
    }

    /// Adds content behind the others.
    pub(crate) fn push(&mut self, held: Held, needs: &Needs) {
        self.has_refused |= held.refused.is_some();
        self.contents.push_back(held);
        self.awaited.extend(needs.here.iter().chain(&needs.missing));
        self.missing.extend(&needs.missing);
    }

    /// Keeps another CoValue in memory for this content.
    pub(crate) fn also_await(&mut self, id: CoValueId) {
        self.awaited.push(id);
    }

    /// When the first content is given up.
    fn deadline(&self) -> Option<Millis> {
        self.contents.front()?.pending.deadline
    }

    fn is_late(&self, now: Millis) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }
}

impl HeldQueues {
    #[cfg(feature = "faults")]
    pub(crate) fn len(&self) -> usize {
        self.queues.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &HeldQueue> {
        self.queues.values()
    }

    /// The peers that have sent the content.
    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.queues.keys().copied()
    }

    /// Notes that content has to be given up at a time. Returns whether a timer is needed for it:
    /// there is one at most, so that content that comes and goes leaves none behind.
    pub(crate) fn set_timer(&mut self, at: Millis) -> bool {
        let is_needed = self.timer.is_none_or(|timer| at < timer);
        if is_needed {
            self.timer = Some(at);
        }
        is_needed
    }

    /// The timer has expired. The peers whose queue has waited too long.
    pub(crate) fn late(&mut self, now: Millis) -> Vec<PeerId> {
        self.timer = self.timer.filter(|timer| *timer > now);
        let late = self.queues.iter().filter(|(_, queue)| queue.is_late(now));
        late.map(|(peer, _)| *peer).collect()
    }

    /// The time of the timer to set now, if one is needed.
    pub(crate) fn next_timer(&mut self) -> Option<Millis> {
        let next = self.queues.values().filter_map(HeldQueue::deadline).min()?;
        self.set_timer(next).then_some(next)
    }

    pub(crate) fn contains(&self, peer: PeerId) -> bool {
        self.queues.contains_key(&peer)
    }

    /// Whether content of a peer waits that was refused.
    pub(crate) fn has_refused_of(&self, peer: PeerId) -> bool {
        self.queues.get(&peer).is_some_and(|queue| queue.has_refused)
    }

    /// A peer's queue, made if there is none.
    pub(crate) fn queue_of(&mut self, peer: PeerId) -> &mut HeldQueue {
        self.queues.entry(peer).or_default()
    }

    /// A dependency is here. Returns whether it was the last one that a peer's queue waited for.
    pub(crate) fn found(&mut self, peer: PeerId, dependency: CoValueId) -> bool {
        let queue = self.queues.get_mut(&peer);
        queue.is_some_and(|queue| queue.missing.remove(&dependency) && queue.missing.is_empty())
    }

    pub(crate) fn remove(&mut self, peer: PeerId) -> Option<HeldQueue> {
        self.queues.remove(&peer)
    }
}
