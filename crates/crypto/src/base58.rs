//! Base58 for the two lengths that every verification needs.
//!
//! A general decoder works digit by digit and byte by byte. For a signature, that takes longer than
//! hashing the signed content. This one processes groups of digits with limbs of 64 bits.

/// The digits in the order of their values: Bitcoin's alphabet, which Jazz uses.
const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// The entry in [`VALUES`] of a byte that is not a digit.
const NO_DIGIT: u8 = u8::MAX;

/// The values of the digits, by ASCII code.
const VALUES: [u8; 256] = values();

/// 32 bytes have at most 44 digits.
pub(crate) const MAX_DIGITS_OF_32: usize = 44;

const fn values() -> [u8; 256] {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        #[expect(clippy::cast_possible_truncation, reason = "there are 58 digits")]
        let digit = value as u8;
        values[ALPHABET[value] as usize] = digit;
        value += 1;
    }
    values
}

/// Decodes the digits of exactly 64 bytes.
pub(crate) fn decode_64(digits: &str) -> Option<[u8; 64]> {
    /// The largest number of digits that fit a limb.
    const GROUP: usize = 10;

    // The least significant first.
    let mut limbs = [0_u64; 8];
    for group in digits.as_bytes().chunks(GROUP) {
        let (mut factor, mut carry) = (1_u64, 0_u64);
        for digit in group {
            let value = VALUES[usize::from(*digit)];
            if value == NO_DIGIT {
                return None;
            }
            factor *= 58;
            carry = carry * 58 + u64::from(value);
        }
        for limb in &mut limbs {
            let product = u128::from(*limb) * u128::from(factor) + u128::from(carry);
            (*limb, carry) = halves(product);
        }
        if carry != 0 {
            return None;
        }
    }
    let mut bytes = [0; 64];
    for (bytes, limb) in bytes.chunks_exact_mut(8).zip(limbs.iter().rev()) {
        bytes.copy_from_slice(&limb.to_be_bytes());
    }
    // Each leading zero byte has a digit of its own.
    let zeros = |text: &[u8], zero| text.iter().take_while(|byte| **byte == zero).count();
    (zeros(&bytes, 0) == zeros(digits.as_bytes(), ALPHABET[0])).then_some(bytes)
}

/// Writes the digits of 32 bytes into `out` and returns their number.
pub(crate) fn encode_32(bytes: &[u8; 32], out: &mut [u8; MAX_DIGITS_OF_32]) -> usize {
    /// The number of digits per division, limited so that the quotient fits a limb.
    const GROUP: usize = 5;
    /// 58 to the power of [`GROUP`].
    const DIVISOR: u64 = 58_u64.pow(5);
    /// Enough groups for 44 digits.
    const GROUPS: usize = 9;

    // The most significant first.
    let mut limbs = [0_u64; 8];
    for (limb, bytes) in limbs.iter_mut().zip(bytes.chunks_exact(4)) {
        *limb = bytes.iter().fold(0, |limb, byte| limb << 8 | u64::from(*byte));
    }
    let mut digits = [0_u8; GROUP * GROUPS];
    for group in digits.rchunks_exact_mut(GROUP) {
        let mut rest = 0;
        for limb in &mut limbs {
            let dividend = rest << 32 | *limb;
            *limb = dividend / DIVISOR;
            rest = dividend % DIVISOR;
        }
        for digit in group.iter_mut().rev() {
            *digit = ALPHABET[usize::try_from(rest % 58).unwrap_or_default()];
            rest /= 58;
        }
    }
    let is_zero = |digit: &&u8| **digit == ALPHABET[0];
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let unused = digits.iter().take_while(is_zero).count().saturating_sub(zeros);
    let used = &digits[unused..];
    out[..used.len()].copy_from_slice(used);
    used.len()
}

/// The low and the high half of a number.
fn halves(wide: u128) -> (u64, u64) {
    #[expect(clippy::cast_possible_truncation, reason = "takes the halves apart")]
    let halves = (wide as u64, (wide >> 64) as u64);
    halves
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Random bytes, often with leading zeros.
    fn bytes<const N: usize>() -> impl Strategy<Value = [u8; N]> {
        (any::<[u8; N]>(), 0..=N).prop_map(|(mut bytes, zeros)| {
            if zeros % 2 == 0 {
                bytes[..zeros].fill(0);
            }
            bytes
        })
    }

    fn encoded(bytes: &[u8; 32]) -> String {
        let mut digits = [0; MAX_DIGITS_OF_32];
        let len = encode_32(bytes, &mut digits);
        String::from_utf8(digits[..len].to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn encodes_as_the_general_encoder_does(bytes in bytes::<32>()) {
            prop_assert_eq!(encoded(&bytes), bs58::encode(bytes).into_string());
        }

        #[test]
        fn decodes_what_the_general_encoder_encodes(bytes in bytes::<64>()) {
            prop_assert_eq!(decode_64(&bs58::encode(bytes).into_string()), Some(bytes));
        }

        #[test]
        fn decodes_nothing_that_the_general_decoder_does_not(
            text in "[1-9A-HJ-NP-Za-km-z]{60,92}|1{0,70}[1-9A-Za-z]{0,90}|.{0,90}",
        ) {
            let mut expected = [0; 64];
            let len = bs58::decode(&text).onto(&mut expected);
            prop_assert_eq!(decode_64(&text), (len == Ok(64)).then_some(expected));
        }
    }

    #[test]
    fn the_extremes_fit() {
        for byte in [0, 255] {
            assert_eq!(encoded(&[byte; 32]), bs58::encode([byte; 32]).into_string());
            let digits = bs58::encode([byte; 64]).into_string();
            assert_eq!(decode_64(&digits), Some([byte; 64]));
        }
        assert_eq!(decode_64(&"z".repeat(88)), None, "more than 64 bytes");
        assert_eq!(decode_64(""), None);
    }
}
