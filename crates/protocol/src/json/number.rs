//! JSON numbers, as JavaScript parses and prints them.

use std::borrow::Cow;

/// `Number.MAX_SAFE_INTEGER`: the largest integer n for which JavaScript represents both n and n +
/// 1 exactly.
pub(crate) const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// JavaScript represents all integers of up to this many decimal digits exactly.
const MAX_EXACT_DIGITS: usize = 15;

/// The value of a well-formed JSON number.
pub(crate) fn value(number: &str) -> f64 {
    // Rust accepts every JSON number.
    number.parse().unwrap_or(f64::NAN)
}

/// The value of a JSON number as a count, if JavaScript represents it exactly.
pub(crate) fn count(number: &str) -> Option<u64> {
    if is_plain_integer(number) {
        return number.parse().ok();
    }
    integer_below(value(number), 9_007_199_254_740_992.0).filter(|&count| count <= MAX_SAFE_INTEGER)
}

/// A number as an integer, if it is an integer from 0 up to `bound`, exclusive.
pub(crate) fn integer_below(value: f64, bound: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked here")]
    (value.fract() == 0.0 && value >= 0.0 && value < bound).then_some(value as u64)
}

/// Reads the non-negative integer at the start of the text, if it is canonical and short enough to
/// be exact. Returns its value and the rest of the text.
pub(crate) fn plain_integer(text: &str) -> Option<(f64, &str)> {
    let mut value: u64 = 0;
    let mut len = 0;
    for byte in text.as_bytes() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 || len > MAX_EXACT_DIGITS {
            break;
        }
        value = value * 10 + u64::from(digit);
        len += 1;
    }
    if !(1..=MAX_EXACT_DIGITS).contains(&len) || (len > 1 && text.starts_with('0')) {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "exact, for the number of digits is checked")]
    Some((value as f64, text.get(len..)?))
}

/// The number as JavaScript prints it. A number that is too large becomes `null`.
pub(crate) fn canonical(number: &str) -> Cow<'_, str> {
    if is_plain_integer(number) {
        return Cow::Borrowed(number);
    }
    let printed = print(value(number));
    if printed == number { Cow::Borrowed(number) } else { Cow::Owned(printed) }
}

/// A number as JavaScript prints it in JSON.
pub(crate) fn print(value: f64) -> String {
    if value.is_finite() {
        ryu_js::Buffer::new().format_finite(value).to_owned()
    } else {
        "null".to_owned()
    }
}

/// Whether this is a canonical, exact, non-negative integer.
fn is_plain_integer(number: &str) -> bool {
    plain_integer(number).is_some_and(|(_, rest)| rest.is_empty())
}
