//! Canonical JSON: the unique text of a value, which is hashed and signed.

use std::borrow::Cow;
use std::cmp::Ordering;

use bytes::Bytes;

use crate::error::{DecodeError, Limit};
use crate::json::native;
use crate::json::number;
use crate::json::scan::{Part, Scanner};
use crate::json::string::RawString;
use crate::limits::Limits;

/// The prefixes of ciphertext and binary data, which the reference writes without escapes.
const RAW_PREFIXES: [&str; 2] = ["encrypted_U", "binary_U"];

/// Rewrites a JSON text canonically. The result is the output of the reference's `stableStringify`
/// for the value that `JSON.parse` returns: sorted by the UTF-16 code units of names, with the last
/// of repeated members, without white space, and with JavaScript's notation of numbers and strings.
/// A string that starts with `encrypted_U` or `binary_U` is written without escapes; if it needs
/// escapes, the result is not JSON, as in the reference.
///
/// The reference's native core writes the JSON of headers and transactions that is hashed. It
/// differs from this function in cases that clients never produce: see
/// [`Header::hashed_json`](crate::Header::hashed_json) and
/// [`Transaction::parse`](crate::Transaction::parse).
///
/// A canonical text is returned as a slice of the input, without a copy.
///
/// # Examples
///
/// ```
/// use downbeat_protocol::{Limits, json};
///
/// let canonical = json::canonicalize(&r#"{ "b": 1e2, "a": "\u00e9" }"#.into(), &Limits::default())?;
/// assert_eq!(canonical, r#"{"a":"é","b":100}"#);
/// # Ok::<(), downbeat_protocol::DecodeError>(())
/// ```
pub fn canonicalize(json: &Bytes, limits: &Limits) -> Result<Bytes, DecodeError> {
    let text = check_text(json, limits)?;
    let depth = limits.depth.min(MAX_CANONICAL_DEPTH);
    let mut scanner = Scanner::new(text, depth);
    let value = scanner.skipped()?;
    scanner.end()?;
    if is_canonical(value, depth)? {
        return Ok(json.slice_ref(value.as_bytes()));
    }
    let mut out = String::with_capacity(value.len());
    write_canonical(value, depth, Form::JavaScript, &mut out)?;
    Ok(out.into())
}

/// Checks that the text of a message, or a part of a message, is UTF-8 and not too long.
pub(crate) fn check_text<'a>(json: &'a Bytes, limits: &Limits) -> Result<&'a str, DecodeError> {
    if json.len() > limits.message_bytes {
        return Err(DecodeError::limit(Limit::MessageBytes, limits.message_bytes));
    }
    decode_utf8(json)
}

/// The bytes as text.
pub(crate) fn decode_utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    str::from_utf8(bytes)
        .map_err(|error| DecodeError::Syntax { reason: "not UTF-8", offset: error.valid_up_to() })
}

/// The variants of canonical JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// That of the reference's JavaScript: [`canonicalize`].
    JavaScript,
    /// The same with escapes in all strings, so that the result is always JSON.
    Escaped,
    /// That of the reference's native core, which decides the ids of headers. It sorts by code
    /// points (JavaScript by UTF-16 code units), prints some numbers differently, and escapes all
    /// strings.
    Native,
}

/// A value without repeated members, as the native core receives it from JavaScript. Fails if a
/// lone surrogate is left, which the native core refuses.
pub(crate) fn unicode<'a>(
    value: &'a str,
    member: &'static str,
) -> Result<Cow<'a, str>, DecodeError> {
    let value = last_members(value)?;
    if has_half_surrogate_pairs(&value)? {
        return Err(DecodeError::invalid(member, "free of lone surrogates"));
    }
    Ok(value)
}

/// A value without repeated members. A value without lone surrogates is returned unchanged, because
/// its repeated members have no effect.
pub(crate) fn last_members(value: &str) -> Result<Cow<'_, str>, DecodeError> {
    if !has_half_surrogate_pairs(value)? {
        return Ok(Cow::Borrowed(value));
    }
    let mut last_members = String::with_capacity(value.len());
    write_canonical(value, usize::MAX, Form::Escaped, &mut last_members)?;
    Ok(Cow::Owned(last_members))
}

/// Whether a name or a string of the value has a lone surrogate.
pub(crate) fn has_half_surrogate_pairs(value: &str) -> Result<bool, DecodeError> {
    let mut found = false;
    Scanner::new(value, usize::MAX).walk(|part| {
        if let Part::Name(text) | Part::String(text) = part {
            found |= text.escaped && text.decode().is_none();
        }
        Ok(())
    })?;
    Ok(found)
}

impl Form {
    fn write_string(self, string: RawString<'_>, out: &mut String) {
        out.push('"');
        if self == Self::JavaScript && string.escaped && is_raw(string) {
            out.push_str(&string.decode_lossy());
        } else {
            string.write_canonical(out);
        }
        out.push('"');
    }

    fn write_number(self, number: &str, out: &mut String) -> Result<(), DecodeError> {
        match self {
            Self::JavaScript | Self::Escaped => out.push_str(&number::canonical(number)),
            Self::Native => out.push_str(
                &native::canonical(number)
                    .ok_or(DecodeError::invalid("header", "free of numbers out of range"))?,
            ),
        }
        Ok(())
    }

    fn cmp_names(self, a: RawString<'_>, b: RawString<'_>) -> Ordering {
        match self {
            Self::JavaScript | Self::Escaped => a.cmp_utf16(b),
            Self::Native => a.decode_lossy().cmp(&b.decode_lossy()),
        }
    }
}

/// Whether a well-formed value is canonical.
fn is_canonical(value: &str, depth: usize) -> Result<bool, DecodeError> {
    let mut canonical = true;
    // The last name in each open object; `None` for arrays.
    let mut last_names: Vec<Option<RawString<'_>>> = Vec::new();
    let mut scanner = Scanner::new(value, depth);
    scanner.walk(|part| {
        canonical &= match part {
            Part::Object | Part::Array => {
                last_names.push(None);
                true
            }
            Part::Name(name) => {
                let last = last_names.last_mut().and_then(|last| last.replace(name));
                name.is_canonical() && last.is_none_or(|last| last.cmp_utf16(name).is_lt())
            }
            Part::String(string) => !string.escaped || (!is_raw(string) && string.is_canonical()),
            Part::Number(number) => matches!(number::canonical(number), Cow::Borrowed(_)),
            Part::Literal(_) => true,
            Part::End => {
                last_names.pop();
                true
            }
        };
        Ok(())
    })?;
    Ok(canonical && !scanner.saw_space())
}

/// An object or array during writing.
struct Open<'a> {
    is_object: bool,
    /// The position of the first member or element in the output.
    start: usize,
    /// The members of an object: their names and positions in the output.
    members: Vec<(RawString<'a>, usize)>,
    is_empty: bool,
}

/// The maximum depth of canonical JSON, because each level may copy its whole content to sort the
/// members. A header with the deepest `meta` has 127 levels.
const MAX_CANONICAL_DEPTH: usize = 128;

/// Appends a well-formed value canonically. Fails if its depth exceeds `depth` or
/// [`MAX_CANONICAL_DEPTH`].
pub(crate) fn write_canonical(
    value: &str,
    depth: usize,
    form: Form,
    out: &mut String,
) -> Result<(), DecodeError> {
    let mut open: Vec<Open<'_>> = Vec::new();
    Scanner::new(value, depth.min(MAX_CANONICAL_DEPTH)).walk(|part| {
        if !matches!(part, Part::End)
            && let Some(parent) = open.last_mut()
        {
            parent.before(part, out);
        }
        match part {
            Part::Object | Part::Array => {
                let is_object = matches!(part, Part::Object);
                out.push(if is_object { '{' } else { '[' });
                let start = out.len();
                open.push(Open { is_object, start, members: Vec::new(), is_empty: true });
            }
            Part::Name(name) => {
                out.push('"');
                name.write_canonical(out);
                out.push_str("\":");
            }
            Part::String(string) => form.write_string(string, out),
            Part::Number(number) => form.write_number(number, out)?,
            Part::Literal(literal) => out.push_str(literal),
            Part::End => {
                if let Some(closed) = open.pop() {
                    closed.sort(form, out);
                    out.push(if closed.is_object { '}' } else { ']' });
                }
            }
        }
        Ok(())
    })
}

impl<'a> Open<'a> {
    /// Writes the separator before the next part, and records the start of a member.
    fn before(&mut self, part: Part<'a>, out: &mut String) {
        let begins_item = !self.is_object || matches!(part, Part::Name(_));
        if begins_item && !std::mem::take(&mut self.is_empty) {
            out.push(',');
        }
        if let Part::Name(name) = part {
            self.members.push((name, out.len()));
        }
    }

    /// Sorts the members of a complete object.
    fn sort(&self, form: Form, out: &mut String) {
        if self.members.is_sorted_by(|(a, _), (b, _)| form.cmp_names(*a, *b).is_lt()) {
            return;
        }
        let ends = self.members.iter().skip(1).map(|&(_, next)| next - 1).chain([out.len()]);
        let mut members: Vec<_> = self
            .members
            .iter()
            .zip(ends)
            .filter_map(|(&(name, start), end)| Some((name, out.get(start..end)?)))
            .collect();
        // Stable: the last of several members with the same name remains the last.
        members.sort_by(|(a, _), (b, _)| form.cmp_names(*a, *b));
        let mut sorted = String::with_capacity(out.len() - self.start);
        let mut members = members.into_iter().peekable();
        while let Some((name, text)) = members.next() {
            if members.peek().is_some_and(|(next, _)| form.cmp_names(*next, name).is_eq()) {
                continue;
            }
            if !sorted.is_empty() {
                sorted.push(',');
            }
            sorted.push_str(text);
        }
        out.truncate(self.start);
        out.push_str(&sorted);
    }
}

/// Whether the reference writes the string without escapes.
fn is_raw(string: RawString<'_>) -> bool {
    if string.escaped {
        // The prefix may have escapes.
        let text = string.decode_lossy();
        RAW_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
    } else {
        RAW_PREFIXES.iter().any(|prefix| string.raw.starts_with(prefix))
    }
}
