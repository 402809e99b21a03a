//! Reproducible random numbers.

/// A small generator (`SplitMix64`).
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The generator of one run.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Self(seed);
        // Similar seeds must give unrelated sequences.
        Self(rng.bits())
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`, or 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let product = u128::from(self.bits()) * bound as u128;
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// A time from `from` to `to`, both included.
    pub(crate) fn time(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(usize::try_from(to - from + 1).unwrap_or(1)) as u64
    }

    /// Returns `true` with this probability in percent.
    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    /// One of the items; `None` if there are none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// One of the items, copied.
    pub(crate) fn one_of<T: Copy, const N: usize>(&mut self, items: [T; N]) -> T {
        const { assert!(N > 0, "the array of items must not be empty") };
        items[self.below(N)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_the_same_numbers_each_time_and_its_own() {
        assert_eq!(Rng::new(1).bits(), Rng::new(1).bits());
        assert_ne!(Rng::new(1).bits(), Rng::new(2).bits());
    }

    #[test]
    fn times_are_within_both_bounds() {
        let mut rng = Rng::new(0);
        let times: Vec<u64> = (0..100).map(|_| rng.time(3, 5)).collect();
        assert_eq!(times.iter().min(), Some(&3));
        assert_eq!(times.iter().max(), Some(&5));
    }
}
