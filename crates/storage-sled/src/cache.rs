//! A map that remembers what was used lately.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Keeps at least the `capacity` entries that were used last, and at most twice as many: when a
/// generation is full it becomes the old one, and what is used of the old one moves to the new.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    capacity: usize,
}

impl<K: Eq + Hash, V> Cache<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), capacity }
    }

    pub(crate) fn get<Q>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut cache = Cache::new(10);
        cache.insert(0, "used");
        for n in 1..100 {
            cache.insert(n, "once");
            assert_eq!(cache.get(&0), Some(&"used"), "after {n}");
        }
        assert_eq!(cache.get(&1), None);
        assert!(cache.young.len() + cache.old.len() <= 20);
    }

    #[test]
    fn the_last_value_of_a_key_stands() {
        let mut cache = Cache::new(2);
        for n in 0..20 {
            cache.insert(7, n);
            cache.insert(100 + n, 0);
            assert_eq!(cache.get(&7), Some(&n));
        }
    }
}
