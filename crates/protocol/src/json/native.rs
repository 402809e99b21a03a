//! Numbers as the reference's native core reads and prints them.
//!
//! The native core gets headers from JavaScript as JSON, and hashes what it prints itself. Its
//! reader of fractions is fast but not exact, and it prints large and small numbers in another
//! form than JavaScript, so that the two agree on all integers up to 2^63 and on most fractions,
//! but not on every number. Since a header whose id does not match the native core's hash is
//! refused by every client, its numbers are the ones that count.

use crate::json::number;

/// A number as the native core prints it when it has come through JavaScript. `None` is for a
/// number that it refuses.
pub(crate) fn canonical(json: &str) -> Option<String> {
    let printed = number::canonical(json);
    // What JavaScript cannot hold has become null.
    if printed == "null" || is_integer_of_64_bits(&printed) {
        return Some(printed.into_owned());
    }
    read(&printed).map(print)
}

fn is_integer_of_64_bits(number: &str) -> bool {
    number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok()
}

/// Reads a number: as many of the leading digits as 64 bits hold, times or divided by a power of
/// ten, with the rounding errors of doing just that.
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
        // A digit that is taken moves the point if it stands behind it, one that is left out if
        // it stands before it.
        exponent += i32::from(full) - i32::from(is_fraction);
    }
    let value = scale(significand, exponent)?;
    Some(if negative { -value } else { value })
}

/// `significand * 10^exponent`, rounded after every step.
fn scale(significand: u64, mut exponent: i32) -> Option<f64> {
    /// The largest power of ten that is a number.
    const MAX_POWER: i32 = 308;
    #[expect(clippy::cast_precision_loss, reason = "the very rounding that is to be reproduced")]
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

/// A power of ten as exact as it can be, which `powi` would not give.
fn power_of_ten(exponent: i32) -> Option<f64> {
    format!("1e{exponent}").parse().ok().filter(|power: &f64| power.is_finite())
}

/// Prints a number: with the digits that JavaScript prints, but with an exponent from 1e16 on and
/// below 1e-5, and with a point in every fraction, even if it has come to be an integer.
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

/// Digits with a point behind the first one, if there are more.
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
            // Half way between two that have as many digits.
            ("1298487918110469.25", "1298487918110469.2"),
            // Not read exactly.
            ("2.5198666249170602e269", "2.51986662491706e269"),
            ("-5.2398311410194375e259", "-5.239831141019438e259"),
        ] {
            assert_eq!(canonical(json).as_deref(), Some(expected), "{json}");
        }
    }
}
