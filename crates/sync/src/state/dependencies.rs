//! The dependencies of a CoValue, in the order in which they became known.

use downbeat_protocol::CoValueId;
use rustc_hash::FxHashSet;

/// From how many dependencies on a set is kept beside the list. Nearly all CoValues have a few,
/// for which looking through the list is faster and smaller; a large group has a hundred thousand.
const INDEXED_FROM: usize = 16;

/// CoValues in the order in which they were added, each once.
#[derive(Debug, Default)]
pub(crate) struct Dependencies {
    list: Vec<CoValueId>,
    /// The same, once there are many.
    index: FxHashSet<CoValueId>,
}

impl Dependencies {
    pub(crate) fn as_slice(&self) -> &[CoValueId] {
        &self.list
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn contains(&self, id: CoValueId) -> bool {
        if self.index.is_empty() { self.list.contains(&id) } else { self.index.contains(&id) }
    }

    /// Adds those that are not there yet.
    pub(crate) fn extend(&mut self, ids: impl IntoIterator<Item = CoValueId>) {
        for id in ids {
            if self.contains(id) {
                continue;
            }
            self.list.push(id);
            if !self.index.is_empty() {
                self.index.insert(id);
            } else if self.list.len() >= INDEXED_FROM {
                self.index.extend(&self.list);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_kept_once_in_the_order_of_adding() {
        let ids: Vec<_> =
            (0..100_u8).map(|byte| CoValueId::from_short_hash(&[byte + 1; 19])).collect();
        let mut dependencies = Dependencies::default();
        for _ in 0..2 {
            for chunk in ids.chunks(7) {
                dependencies.extend(chunk.iter().copied());
            }
        }
        assert_eq!(dependencies.as_slice(), ids);
        assert!(dependencies.contains(ids[99]));
        assert_eq!(dependencies.len(), 100);
    }
}
