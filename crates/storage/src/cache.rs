//! A map that keeps the entries that were used last.
//!
//! Public for the crates of this workspace only. No stability is promised.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

/// Keeps at least the `CAPACITY` entries that were used last, and at most twice as many.
///
/// Entries lie in two generations. When the young one is full it becomes the old one, and the
/// entries of the old one are dropped. Use of an old entry makes it young again.
#[derive(Debug)]
pub struct GenerationCache<K, V, const CAPACITY: usize, S = RandomState> {
    young: HashMap<K, V, S>,
    old: HashMap<K, V, S>,
}

impl<K, V, const CAPACITY: usize, S: Default> Default for GenerationCache<K, V, CAPACITY, S> {
    fn default() -> Self {
        Self { young: HashMap::default(), old: HashMap::default() }
    }
}

impl<K: Eq + Hash, V, const CAPACITY: usize, S: BuildHasher + Default>
    GenerationCache<K, V, CAPACITY, S>
{
    /// The value of a key. Counts as a use.
    pub fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get(key)
    }

    /// Whether the key has a value. Counts as a use.
    pub fn contains<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= CAPACITY {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Removes a key, and returns its value.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut cache = GenerationCache::<_, _, 10>::default();
        cache.insert(0, "used");
        for n in 1..1_000 {
            cache.insert(n, "once");
            assert_eq!(cache.get(&0), Some(&"used"), "after {n}");
            assert!(cache.contains(&n));
        }
        assert_eq!(cache.get(&1), None);
        assert!(!cache.contains(&500));
        assert!(cache.young.len() + cache.old.len() <= 20);
    }

    #[test]
    fn the_last_value_of_a_key_stands() {
        let mut cache = GenerationCache::<_, _, 2>::default();
        for n in 0..20 {
            cache.insert(7, n);
            cache.insert(100 + n, 0);
            assert_eq!(cache.get(&7), Some(&n));
        }
        assert_eq!(cache.remove(&7), Some(19));
        assert_eq!(cache.get(&7), None);
    }
}
