//! Notes in memory of CoValues that an upstream has not acknowledged in full.

use downbeat_protocol::CoValueId;
use rustc_hash::FxHashMap;

use crate::event::UpstreamName;

/// Notes that may be in memory even if few CoValues are, so that the list in storage is not read
/// for a few.
const MIN_NOTES: usize = 1_024;

/// CoValues that are noted in storage as not acknowledged by an upstream.
///
/// Some notes are in storage only: those of forgotten CoValues while the upstream is away, and
/// those beyond the bound. They are listed when the upstream connects, or has acknowledged enough
/// CoValues.
#[derive(Debug, Default)]
pub(crate) struct UnsyncedNotes {
    by_id: FxHashMap<CoValueId, Vec<UpstreamName>>,
}

impl UnsyncedNotes {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The number of notes to keep in memory.
    pub(crate) fn bound(warm_co_values: usize) -> usize {
        warm_co_values.max(MIN_NOTES)
    }

    /// Whether no upstream is noted for any CoValue, or not for this one.
    pub(crate) fn is_empty_for(&self, id: CoValueId) -> bool {
        !self.by_id.contains_key(&id)
    }

    pub(crate) fn contains(&self, id: CoValueId, name: &UpstreamName) -> bool {
        self.by_id.get(&id).is_some_and(|names| names.contains(name))
    }

    pub(crate) fn insert(&mut self, id: CoValueId, name: &UpstreamName) {
        let names = self.by_id.entry(id).or_default();
        if !names.contains(name) {
            names.push(name.clone());
        }
    }

    /// Removes a note. Returns whether there was one.
    pub(crate) fn remove(&mut self, id: CoValueId, name: &UpstreamName) -> bool {
        let Some(names) = self.by_id.get_mut(&id) else { return false };
        let before = names.len();
        names.retain(|other| other != name);
        let is_removed = names.len() < before;
        if names.is_empty() {
            self.by_id.remove(&id);
        }
        is_removed
    }

    /// Removes the notes for an upstream but for those of the CoValues to keep.
    pub(crate) fn retain(&mut self, name: &UpstreamName, keep: impl Fn(CoValueId) -> bool) {
        self.by_id.retain(|id, names| {
            names.retain(|other| other != name || keep(*id));
            !names.is_empty()
        });
    }
}
