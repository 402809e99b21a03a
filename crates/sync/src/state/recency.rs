//! What was used when, so that the least recently used is forgotten first.

use std::collections::VecDeque;

/// Stale uses that may be in the list before it is compacted, so that this is not done for a few.
const MIN_STALE_USES: usize = 1_024;

/// The time of a use. It counts uses, and not time.
pub(crate) type Stamp = u64;

/// Things in the order of their uses, oldest first. A thing that was used again is in the list
/// several times: its older uses are stale, and are skipped.
#[derive(Debug)]
pub(crate) struct UseOrder<K> {
    uses: VecDeque<(K, Stamp)>,
}

impl<K> UseOrder<K> {
    pub(crate) fn push(&mut self, key: K, stamp: Stamp) {
        self.uses.push_back((key, stamp));
    }

    /// Takes out the oldest use, which may be stale.
    pub(crate) fn pop(&mut self) -> Option<(K, Stamp)> {
        self.uses.pop_front()
    }

    /// Removes stale uses if most of them are stale. `live` is the number of things.
    pub(crate) fn compact(&mut self, live: usize, is_current: impl Fn(&K, Stamp) -> bool) {
        if self.uses.len() > 2 * live + MIN_STALE_USES {
            self.uses.retain(|(key, stamp)| is_current(key, *stamp));
        }
    }

    /// The length of the list, and the bound that it has to keep.
    #[cfg(feature = "faults")]
    pub(crate) fn len_and_bound(&self, live: usize) -> (usize, usize) {
        (self.uses.len(), 2 * live + 2 * MIN_STALE_USES)
    }
}

impl<K> Default for UseOrder<K> {
    fn default() -> Self {
        Self { uses: VecDeque::new() }
    }
}
