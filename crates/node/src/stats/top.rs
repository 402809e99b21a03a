//! Which CoValues cause the most traffic, in bounded memory.

use downbeat_protocol::CoValueId;
use rustc_hash::FxHashMap;

/// CoValues that are watched at a time. What causes more than one part in so many of the traffic
/// is among them for certain.
const WATCHED: usize = 128;

/// The traffic of one CoValue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// The CoValue.
    pub id: CoValueId,
    /// Bytes of transactions, to and from peers, as far as a sample of one in 4 KiB tells. Besides
    /// that, at most [`Self::error`] too many.
    pub bytes: u64,
    /// How many of the bytes may have been those of other CoValues: it has taken the place of one
    /// that had so many.
    pub error: u64,
}

/// The space-saving sketch of Metwally, Agrawal and El Abbadi: what is new takes the place of
/// what had least, and inherits its count.
#[derive(Default)]
pub(crate) struct Top {
    watched: FxHashMap<CoValueId, Traffic>,
}

impl Top {
    pub(crate) fn add(&mut self, id: CoValueId, bytes: u64) {
        if let Some(traffic) = self.watched.get_mut(&id) {
            traffic.bytes += bytes;
            return;
        }
        let mut error = 0;
        if self.watched.len() >= WATCHED
            && let Some(least) = self.watched.values().min_by_key(|traffic| traffic.bytes).copied()
        {
            self.watched.remove(&least.id);
            error = least.bytes;
        }
        self.watched.insert(id, Traffic { id, bytes: bytes + error, error });
    }

    /// The first, most traffic first.
    pub(crate) fn first(&self, count: usize) -> Vec<Traffic> {
        let mut all: Vec<Traffic> = self.watched.values().copied().collect();
        all.sort_unstable_by_key(|traffic| (std::cmp::Reverse(traffic.bytes), traffic.id));
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> CoValueId {
        let mut hash = [1; 19];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        CoValueId::from_short_hash(&hash)
    }

    #[test]
    fn the_heaviest_is_found_among_many_in_bounded_memory() {
        let mut top = Top::default();
        for number in 0..20_000 {
            top.add(id(number), 10);
            if number % 10 == 0 {
                top.add(id(7), 100);
            }
        }
        assert!(top.watched.len() <= WATCHED);
        let first = top.first(1)[0];
        assert_eq!(first.id, id(7));
        assert!(first.bytes - first.error <= 200_010 && first.bytes >= 200_010, "{first:?}");
    }
}
