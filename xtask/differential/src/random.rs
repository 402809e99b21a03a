//! Reproducible random values.

/// A generator of pseudo-random numbers: `SplitMix64`, by Steele, Lea and Flood. It is small, gives
/// the same numbers on every machine, and is good enough for test cases.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

/// The increment of `SplitMix64`: 2^64 divided by the golden ratio.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// The generator of one case, unrelated to those of other suites, numbers or seeds.
    pub(crate) fn of_case(seed: u64, suite: &str, index: u64) -> Self {
        let mut random = Self(seed);
        for byte in suite.bytes() {
            random.0 ^= u64::from(byte);
            random.0 = random.next();
        }
        random.0 ^= index;
        random.0 = random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN_GAMMA);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// Like [`Self::below`], for lengths and positions.
    pub(crate) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap_or(0)
    }

    /// Returns `true` with this probability in percent.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the items, which must not be empty.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// A number of random base58 digits.
    pub(crate) fn base58(&mut self, len: usize) -> String {
        const DIGITS: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
        (0..len).map(|_| char::from(self.pick(DIGITS))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_can_be_made_again_and_is_its_own() {
        let next = |seed, suite, index| Random::of_case(seed, suite, index).next();
        assert_eq!(next(1, "json", 2), next(1, "json", 2));
        assert_ne!(next(1, "json", 2), next(1, "json", 3));
        assert_ne!(next(1, "json", 2), next(1, "pieces", 2));
        assert_ne!(next(1, "json", 2), next(2, "json", 2));
    }
}
