//! Reconcile batches of one peer, which are compared entry by entry.

use std::collections::VecDeque;
use std::vec;

use downbeat_protocol::{CoValueId, Reconcile, ShortHash};
use rustc_hash::FxHashSet;

use crate::cost;

/// Reconcile batches of one peer that may be open at the same time. A client sends the next batch
/// when the last one is acknowledged, so a client has no more than a few.
pub(crate) const MAX_OPEN_BATCHES: usize = 16;

/// CoValues of one peer that are compared at the same time. The others wait in the batch, so that
/// the look-ups of one peer do not delay those of others. A client's batch has 100.
const MAX_COMPARISONS: usize = 256;

/// Reconcile batches that are not acknowledged yet.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    list: VecDeque<Batch>,
    /// Comparisons that have begun, and wait for storage or for the peer's turn.
    in_progress: usize,
    /// Whether the peer is in the queue of those with CoValues to compare.
    is_queued: bool,
    bytes: u64,
}

/// A reconcile message that is not acknowledged yet.
#[derive(Debug)]
struct Batch {
    /// Chosen by the peer.
    id: String,
    /// CoValues whose comparison has not begun.
    waiting: vec::IntoIter<(CoValueId, ShortHash)>,
    /// CoValues that have not been compared yet, or whose content is not durable yet.
    open: FxHashSet<CoValueId>,
    bytes: u64,
}

impl Batches {
    /// A batch begins. If too many are open, the oldest is forgotten.
    pub(crate) fn begin(&mut self, reconcile: Reconcile) {
        if self.list.len() >= MAX_OPEN_BATCHES
            && let Some(oldest) = self.list.pop_front()
        {
            self.bytes -= oldest.bytes;
        }
        let Reconcile { id, values } = reconcile;
        let bytes = cost::batch_bytes(&id, values.len());
        self.bytes += bytes;
        let waiting = values.into_iter();
        self.list.push_back(Batch { id, waiting, open: FxHashSet::default(), bytes });
    }

    /// Enters the queue of peers with CoValues to compare, if a comparison may begin. Returns
    /// whether the peer was not in it.
    pub(crate) fn enter_queue(&mut self) -> bool {
        let may_begin = self.in_progress < MAX_COMPARISONS
            && self.list.iter().any(|batch| !batch.waiting.as_slice().is_empty());
        may_begin && !std::mem::replace(&mut self.is_queued, true)
    }

    /// Begins with the next CoValue of the oldest batch. The peer leaves the queue if there is
    /// none, or too many comparisons are in progress.
    pub(crate) fn next(&mut self) -> Option<(CoValueId, ShortHash)> {
        let mut batches = self.list.iter_mut();
        let next = batches
            .find(|batch| !batch.waiting.as_slice().is_empty())
            .filter(|_| self.in_progress < MAX_COMPARISONS)
            .and_then(Batch::next);
        self.is_queued = next.is_some();
        next
    }

    /// A comparison waits for storage or for the peer's turn.
    pub(crate) fn begin_comparison(&mut self) {
        self.in_progress += 1;
    }

    /// A comparison has been made.
    pub(crate) fn end_comparison(&mut self) {
        self.in_progress = self.in_progress.saturating_sub(1);
    }

    /// Whether a CoValue is being compared.
    pub(crate) fn is_comparing(&self, id: CoValueId) -> bool {
        self.list.iter().any(|batch| batch.open.contains(&id))
    }

    /// A CoValue is up to date with the peer. Returns whether any batch is open.
    pub(crate) fn finish(&mut self, id: CoValueId) -> bool {
        for batch in &mut self.list {
            batch.open.remove(&id);
        }
        !self.list.is_empty()
    }

    /// Whether a batch can be acknowledged.
    pub(crate) fn has_finished(&self) -> bool {
        self.list.iter().any(Batch::is_finished)
    }

    /// Takes the id of a batch that can be acknowledged.
    pub(crate) fn next_finished(&mut self) -> Option<String> {
        let done = self.list.iter().position(Batch::is_finished)?;
        let Batch { id, bytes, .. } = self.list.remove(done)?;
        self.bytes -= bytes;
        Some(id)
    }

    /// The memory of all batches.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    #[cfg(feature = "faults")]
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }
}

impl Batch {
    fn next(&mut self) -> Option<(CoValueId, ShortHash)> {
        let next = self.waiting.next()?;
        self.open.insert(next.0);
        Some(next)
    }

    fn is_finished(&self) -> bool {
        self.open.is_empty() && self.waiting.as_slice().is_empty()
    }
}
