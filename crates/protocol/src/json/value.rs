//! Reading the types of values that members have.

use std::borrow::Cow;

use crate::error::DecodeError;
use crate::json::number;
use crate::json::scan::Scanner;

/// A string that is Unicode text.
pub(crate) fn text<'a>(
    scanner: &mut Scanner<'a>,
    member: &'static str,
) -> Result<Cow<'a, str>, DecodeError> {
    if scanner.peek() != Some(b'"') {
        return Err(DecodeError::invalid(member, "a string"));
    }
    scanner
        .string()?
        .decode()
        .ok_or(DecodeError::invalid(member, "Unicode text (it has a lone surrogate)"))
}

/// `true` or `false`.
pub(crate) fn boolean(
    scanner: &mut Scanner<'_>,
    member: &'static str,
) -> Result<bool, DecodeError> {
    if scanner.literal("true") {
        Ok(true)
    } else if scanner.literal("false") {
        Ok(false)
    } else {
        Err(DecodeError::invalid(member, "true or false"))
    }
}

/// A count.
pub(crate) fn count(scanner: &mut Scanner<'_>, member: &'static str) -> Result<u64, DecodeError> {
    let expected = DecodeError::invalid(member, "a whole number from 0 to 2^53 - 1");
    if !matches!(scanner.peek(), Some(b'-' | b'0'..=b'9')) {
        return Err(expected);
    }
    number::count(scanner.number()?).ok_or(expected)
}

/// The value that `read` returns, or `None` for `null`.
pub(crate) fn nullable<'a, T>(
    scanner: &mut Scanner<'a>,
    read: impl FnOnce(&mut Scanner<'a>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if scanner.literal("null") { Ok(None) } else { read(scanner).map(Some) }
}

/// Like [`nullable`], for values that the native core receives from JavaScript, which turns a
/// number that is too large into `null`.
pub(crate) fn json_nullable<'a, T>(
    scanner: &mut Scanner<'a>,
    read: impl FnOnce(&mut Scanner<'a>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if matches!(scanner.peek(), Some(b'-' | b'0'..=b'9')) {
        let start = scanner.pos();
        if number::value(scanner.number()?).is_infinite() {
            return Ok(None);
        }
        scanner.jump(start);
    }
    nullable(scanner, read)
}

/// Checks that the next value is an object.
pub(crate) fn expect_object(
    scanner: &mut Scanner<'_>,
    member: &'static str,
) -> Result<(), DecodeError> {
    match scanner.peek() {
        Some(b'{') => Ok(()),
        _ => Err(DecodeError::invalid(member, "an object")),
    }
}

/// Checks that the next value is an array.
pub(crate) fn expect_array(
    scanner: &mut Scanner<'_>,
    member: &'static str,
) -> Result<(), DecodeError> {
    match scanner.peek() {
        Some(b'[') => Ok(()),
        _ => Err(DecodeError::invalid(member, "an array")),
    }
}
