//! The table of CoValues and their subscribers. A CoValue has an entry while it is in memory.
//!
//! Each CoValue has a number, its key. Peers store the key and not the id, because in a
//! subscription to a CoValue that is not in memory the id would be as large as all the rest.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, Ordering};

use downbeat_protocol::CoValueId;
use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use crate::event::PeerId;
use crate::state::entry::{Entry, EntryBytes};
use crate::state::subscribers::Subscribers;
use crate::state::use_list::{Linked, Links, UseList};

/// The number of a CoValue, for as long as it has an entry or subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(u32);

/// The known CoValues, by id.
pub(crate) struct CoValueTable {
    /// The slots in use, by the hashes of their ids.
    table: HashTable<Key>,
    slots: Vec<Slot>,
    /// The slots that are not in use.
    free: Vec<Key>,
    /// How many slots have an entry.
    entries: usize,
    /// The memory of all entries, as of the last [`CoValueTable::settle`].
    bytes: EntryBytes,
    /// Entries that may have changed since the last [`CoValueTable::settle`].
    touched: Vec<Key>,
    /// The entries that can be forgotten, least recently used first. Busy ones are not in it.
    quiet: UseList,
    /// Entries that were looked at by [`CoValueTable::settle`], or were the next to be forgotten.
    #[cfg(test)]
    pub steps: std::cell::Cell<usize>,
    /// The slot that was looked up last. It is mostly the one that is looked up next, because most
    /// of an event's work concerns one CoValue.
    last: AtomicU32,
}

struct Slot {
    id: CoValueId,
    kept: Option<Box<Kept>>,
    subscribers: Subscribers,
    /// The hash of the counts that subscribers without counts of their own have.
    agreed: u64,
}

/// An entry, and what the table notes of it.
struct Kept {
    entry: Entry,
    /// Its part in the memory of all entries.
    bytes: EntryBytes,
    /// Its place among those that can be forgotten.
    links: Links,
    /// Whether it is on the list of touched entries.
    is_touched: bool,
}

impl CoValueTable {
    /// In `last`: no slot.
    const NOWHERE: u32 = u32::MAX;

    pub(crate) fn get(&self, id: &CoValueId) -> Option<&Entry> {
        self.at(self.key(*id)?)
    }

    pub(crate) fn get_mut(&mut self, id: &CoValueId) -> Option<&mut Entry> {
        self.at_mut(self.key(*id)?)
    }

    pub(crate) fn contains_key(&self, id: &CoValueId) -> bool {
        self.get(id).is_some()
    }

    fn at(&self, key: Key) -> Option<&Entry> {
        self.slots.get(key.index())?.kept.as_deref().map(|kept| &kept.entry)
    }

    /// Each change of an entry goes through here.
    fn at_mut(&mut self, key: Key) -> Option<&mut Entry> {
        let kept = self.slots.get_mut(key.index())?.kept.as_deref_mut()?;
        if !kept.is_touched {
            kept.is_touched = true;
            self.touched.push(key);
        }
        Some(&mut kept.entry)
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.entries
    }

    /// The memory of all entries.
    pub(crate) fn bytes(&self) -> EntryBytes {
        self.bytes
    }

    pub(crate) fn get_or_insert_with(
        &mut self,
        id: CoValueId,
        make: impl FnOnce() -> Entry,
    ) -> &mut Entry {
        let key = self.key_or_new(id);
        let Self { slots, touched, entries, .. } = self;
        let kept = slots[key.index()].kept.get_or_insert_with(|| {
            *entries += 1;
            Box::new(Kept {
                entry: make(),
                bytes: EntryBytes::default(),
                links: Links::default(),
                is_touched: false,
            })
        });
        if !kept.is_touched {
            kept.is_touched = true;
            touched.push(key);
        }
        &mut kept.entry
    }

    pub(crate) fn remove(&mut self, id: CoValueId) -> Option<Entry> {
        let key = self.key(id)?;
        self.quiet.remove(&mut self.slots, key.0);
        let kept = self.slots[key.index()].kept.take()?;
        self.entries -= 1;
        self.bytes -= kept.bytes;
        self.free_unused(key);
        Some(kept.entry)
    }

    /// Counts the memory of the entries that have changed, and finds out which of them can be
    /// forgotten. Those that were used last are forgotten last.
    pub(crate) fn settle(&mut self) {
        for key in self.touched.drain(..) {
            // A slot may have been freed since, and be used again.
            let Some(kept) = self.slots[key.index()].kept.as_deref_mut() else { continue };
            kept.is_touched = false;
            #[cfg(test)]
            self.steps.update(|steps| steps + 1);
            self.bytes -= kept.bytes;
            kept.bytes = kept.entry.bytes();
            self.bytes += kept.bytes;
            if kept.entry.is_quiet() {
                self.quiet.push(&mut self.slots, key.0);
            } else {
                self.quiet.remove(&mut self.slots, key.0);
            }
        }
    }

    /// The least recently used entry that can be forgotten, as of the last [`Self::settle`].
    pub(crate) fn least_recently_used(&self) -> Option<CoValueId> {
        #[cfg(test)]
        self.steps.update(|steps| steps + 1);
        self.quiet.first().map(|number| self.id(Key(number)))
    }

    /// All entries.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (CoValueId, &Entry)> {
        self.slots.iter().filter_map(|slot| Some((slot.id, &slot.kept.as_ref()?.entry)))
    }

    /// The CoValues that have subscribers.
    pub(crate) fn subscribed(&self) -> impl Iterator<Item = CoValueId> {
        let used = self.slots.iter().filter(|slot| !slot.subscribers.is_empty());
        used.map(|slot| slot.id)
    }

    /// The subscribers of a CoValue.
    pub(crate) fn subscribers(&self, id: CoValueId) -> &[PeerId] {
        self.slot(id).map_or(&[], |slot| slot.subscribers.as_slice())
    }

    /// Adds a subscriber that is not one yet.
    pub(crate) fn subscribe(&mut self, id: CoValueId, peer: PeerId) -> Key {
        let key = self.key_or_new(id);
        self.slots[key.index()].subscribers.add(peer);
        key
    }

    pub(crate) fn unsubscribe(&mut self, id: CoValueId, peer: PeerId) {
        if let Some(key) = self.key(id) {
            self.slots[key.index()].subscribers.remove(peer);
            self.free_unused(key);
        }
    }

    /// The hash of the counts that the agreeing subscribers of a forgotten CoValue have.
    pub(crate) fn agreed(&self, id: CoValueId) -> Option<u64> {
        self.slot(id).map(|slot| slot.agreed)
    }

    pub(crate) fn set_agreed(&mut self, id: CoValueId, agreed: u64) {
        if let Some(key) = self.key(id) {
            self.slots[key.index()].agreed = agreed;
        }
    }

    /// The key of a CoValue that has one.
    pub(crate) fn key(&self, id: CoValueId) -> Option<Key> {
        let last = Key(self.last.load(Ordering::Relaxed));
        if self.slots.get(last.index()).is_some_and(|slot| slot.id == id) {
            return Some(last);
        }
        let key = *self.table.find(hash(id), |key| self.slots[key.index()].id == id)?;
        self.last.store(key.0, Ordering::Relaxed);
        Some(key)
    }

    /// The CoValue with a key. It is mostly the next to be looked up.
    pub(crate) fn id(&self, key: Key) -> CoValueId {
        self.last.store(key.0, Ordering::Relaxed);
        self.slots[key.index()].id
    }

    fn slot(&self, id: CoValueId) -> Option<&Slot> {
        self.key(id).map(|key| &self.slots[key.index()])
    }

    fn key_or_new(&mut self, id: CoValueId) -> Key {
        if let Some(key) = self.key(id) {
            return key;
        }
        let slot = Slot { id, kept: None, subscribers: Subscribers::None, agreed: 0 };
        let key = if let Some(key) = self.free.pop() {
            self.slots[key.index()] = slot;
            key
        } else {
            let number = u32::try_from(self.slots.len()).expect("memory ends before numbers do");
            self.slots.push(slot);
            Key(number)
        };
        self.table.insert_unique(hash(id), key, |key| hash(self.slots[key.index()].id));
        self.last.store(key.0, Ordering::Relaxed);
        key
    }

    /// Frees a slot that has no entry and no subscribers.
    fn free_unused(&mut self, key: Key) {
        let slot = &self.slots[key.index()];
        if slot.kept.is_some() || !slot.subscribers.is_empty() {
            return;
        }
        if let Ok(found) = self.table.find_entry(hash(slot.id), |other| *other == key) {
            found.remove();
        }
        self.free.push(key);
        self.last.store(Self::NOWHERE, Ordering::Relaxed);
    }
}

impl Default for CoValueTable {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            entries: 0,
            bytes: EntryBytes::default(),
            touched: Vec::new(),
            quiet: UseList::default(),
            #[cfg(test)]
            steps: std::cell::Cell::default(),
            last: AtomicU32::new(Self::NOWHERE),
        }
    }
}

/// In the order of ids, so that two tables with the same CoValues print the same.
impl fmt::Debug for CoValueTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut keys: Vec<Key> = self.table.iter().copied().collect();
        keys.sort_unstable_by_key(|key| self.id(*key));
        let slots = keys.iter().map(|key| &self.slots[key.index()]);
        f.debug_map()
            .entries(slots.map(|slot| {
                let entry = slot.kept.as_ref().map(|kept| &kept.entry);
                (slot.id, (entry, slot.subscribers.as_slice(), slot.agreed))
            }))
            .finish()
    }
}

impl Linked for Vec<Slot> {
    fn links(&mut self, number: u32) -> Option<&mut Links> {
        let slot = self.get_mut(number as usize)?;
        slot.kept.as_deref_mut().map(|kept| &mut kept.links)
    }
}

impl Key {
    fn index(self) -> usize {
        self.0 as usize
    }
}

fn hash(id: CoValueId) -> u64 {
    FxBuildHasher.hash_one(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> CoValueId {
        CoValueId::from_short_hash(&[number; 19])
    }

    #[test]
    fn a_key_is_reused_when_its_covalue_is_gone() {
        let mut values = CoValueTable::default();
        let key = values.subscribe(id(1), PeerId(1));
        values.get_or_insert_with(id(1), Entry::loading);
        values.unsubscribe(id(1), PeerId(1));
        assert_eq!(values.key(id(1)), Some(key));
        values.remove(id(1));
        assert_eq!((values.key(id(1)), values.len()), (None, 0));
        assert_eq!(values.subscribe(id(2), PeerId(1)), key);
        assert_eq!(values.key(id(1)), None);
        assert_eq!(values.id(key), id(2));
    }

    #[test]
    fn each_of_many_covalues_is_found_by_its_id() {
        let mut values = CoValueTable::default();
        for number in 1..=200 {
            values.subscribe(id(number), PeerId(number.into()));
        }
        for number in (2..=200).step_by(2) {
            values.unsubscribe(id(number), PeerId(number.into()));
        }
        for number in 1..=200 {
            let expected = if number % 2 == 0 { vec![] } else { vec![PeerId(number.into())] };
            assert_eq!(values.subscribers(id(number)), expected);
        }
    }
}
