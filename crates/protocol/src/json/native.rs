//! Numbers as the reference's native core parses and prints them.
//!
//! The native core receives headers from JavaScript as JSON, and hashes the JSON that it prints
//! again. Its parser rounds some fractions, and it prints large and small numbers in another
//! notation than JavaScript. Both agree on all integers up to 2^63 and on most fractions. Every
//! client refuses a header whose id does not match the native core's hash, so the native core's
//! numbers decide.

use crate::json::number;

/// A number as the native core prints it after JavaScript has printed it. `None` if the native core
/// refuses it.
pub(crate) fn canonical(json: &str) -> Option<String> {
    let printed = number::canonical(json);
    // JavaScript prints null for a number that is too large.
    if printed == "null" || is_integer_of_64_bits(&printed) {
        return Some(printed.into_owned());
    }
    read(&printed).map(print)
}

fn is_integer_of_64_bits(number: &str) -> bool {
    number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok()
}

/// Parses a number: the leading digits that fit 64 bits, multiplied or divided by a power of ten,
/// with the rounding errors of this method.
fn read(json: &str) -> Option<f64> {
    let (negative, digits) = match json.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, json),
    };
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((digits, "0"));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut exponent: i32 = exponent.parse().ok()?;
    let mut significand: u64 = 0;
    let mut full = false;
    for (digit, is_fraction) in integer
        .bytes()
        .map(|digit| (digit, false))
        .chain(fraction.bytes().map(|digit| (digit, true)))
    {
        let longer = significand
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(u64::from(digit.wrapping_sub(b'0'))))
            .filter(|_| !full);
        full = longer.is_none();
        significand = longer.unwrap_or(significand);
        // A digit that fits moves the point if it is a digit of the fraction. A digit that does not
        // fit moves the point if it is a digit of the integer.
        exponent += i32::from(full) - i32::from(is_fraction);
    }
    let value = scale(significand, exponent)?;
    Some(if negative { -value } else { value })
}

/// `significand * 10^exponent`, rounded after every step.
fn scale(significand: u64, mut exponent: i32) -> Option<f64> {
    /// The largest power of ten that is finite.
    const MAX_POWER: i32 = 308;
    #[expect(clippy::cast_precision_loss, reason = "reproduces the rounding of the native core")]
    let mut value = significand as f64;
    while exponent < -MAX_POWER {
        if value == 0.0 {
            return Some(value);
        }
        value /= power_of_ten(MAX_POWER)?;
        exponent += MAX_POWER;
    }
    if exponent < 0 {
        return Some(value / power_of_ten(-exponent)?);
    }
    Some(value * power_of_ten(exponent)?).filter(|value| value.is_finite())
}

/// The nearest number to a power of ten. `powi` is less exact.
fn power_of_ten(exponent: i32) -> Option<f64> {
    format!("1e{exponent}").parse().ok().filter(|power: &f64| power.is_finite())
}

/// Prints a number with the digits that JavaScript prints, but with an exponent from 1e16 and below
/// 1e-5, and with a point even if the fraction is zero.
fn print(value: f64) -> String {
    let printed = number::print(value);
    let (sign, digits) = match printed.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", printed.as_str()),
    };
    if let Some((mantissa, exponent)) = digits.split_once('e') {
        return format!("{sign}{mantissa}e{}", exponent.trim_start_matches('+'));
    }
    if value.abs() >= 1e16 {
        let exponent = digits.len() - 1;
        return format!("{sign}{}e{exponent}", with_point(digits.trim_end_matches('0')));
    }
    match digits.strip_prefix("0.00000") {
        Some(digits) => format!("{sign}{}e-6", with_point(digits)),
        None if digits.contains('.') => printed,
        None => format!("{printed}.0"),
    }
}

/// Digits with a point after the first one, if there are several.
fn with_point(digits: &str) -> String {
    match digits.split_at_checked(1) {
        Some((first, rest)) if !rest.is_empty() => format!("{first}.{rest}"),
        _ => digits.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_the_native_core_prints_them() {
        for (json, expected) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("1e2", "100"),
            ("0.5", "0.5"),
            ("1e-5", "0.00001"),
            ("1.5e-6", "1.5e-6"),
            ("5e-324", "5e-324"),
            ("1e17", "100000000000000000"),
            ("18446744073709549568", "18446744073709550000"),
            ("18446744073709551616", "1.8446744073709552e19"),
            ("-9223372036854774784", "-9223372036854775000"),
            ("-9223372036854775808", "-9.223372036854776e18"),
            ("1e20", "1e20"),
            ("1e21", "1e21"),
            ("1.7976931348623157e308", "1.7976931348623157e308"),
            ("1e309", "null"),
            // Half way between two numbers with the same count of digits.
            ("1298487918110469.25", "1298487918110469.2"),
            // Not parsed exactly.
            ("2.5198666249170602e269", "2.51986662491706e269"),
            ("-5.2398311410194375e259", "-5.239831141019438e259"),
        ] {
            assert_eq!(canonical(json).as_deref(), Some(expected), "{json}");
        }
    }
}
