//! Reproducible random numbers.

/// A small generator (`SplitMix64`). Each case has its own, from the seed of the run and the number
/// of the case.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The generator of one case.
    pub fn of_case(seed: u64, case: u64) -> Self {
        let mut rng = Self(seed);
        // Similar seeds must give unrelated sequences.
        let scattered = rng.bits();
        Self(scattered ^ case.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`, or 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // The bias is negligible for fuzzing.
        let product = u128::from(self.bits()) * bound as u128;
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// Returns `true` once in `times` calls, on average.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A random byte.
    pub fn byte(&mut self) -> u8 {
        self.bits().to_le_bytes()[0]
    }

    /// One of the items, or `None` if there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// A range of at most `max_len` in a sequence of length `len`.
    pub fn range(&mut self, len: usize, max_len: usize) -> std::ops::Range<usize> {
        let start = self.below(len);
        let longest = (len - start).min(max_len);
        // Short ranges find more, but sometimes a long one is needed.
        let length = if self.once_in(4) { longest } else { longest.min(16) };
        start..start + (1 + self.below(length)).min(len - start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_has_the_same_numbers_each_time_and_its_own() {
        let first = |seed, case| Rng::of_case(seed, case).bits();
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(1, 3));
        assert_ne!(first(1, 2), first(2, 2));
    }

    #[test]
    fn ranges_stay_inside() {
        let mut rng = Rng::of_case(0, 0);
        for len in [0, 1, 2, 50] {
            for _ in 0..200 {
                let range = rng.range(len, 8);
                assert!(range.start <= range.end && range.end <= len && range.len() <= 8);
            }
        }
    }
}
