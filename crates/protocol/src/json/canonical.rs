//! Canonical JSON: the one text that stands for a value, which is hashed and signed.

use std::borrow::Cow;
use std::cmp::Ordering;

use bytes::Bytes;

use crate::error::{DecodeError, Limit};
use crate::json::native;
use crate::json::number;
use crate::json::scan::{Part, Scanner};
use crate::json::string::RawString;
use crate::limits::Limits;

/// Strings that start like this are ciphertext or binary data, which the reference writes without
/// looking for what to escape.
const RAW_PREFIXES: [&str; 2] = ["encrypted_U", "binary_U"];

/// Rewrites a JSON text canonically, as the reference's `stableStringify` prints the value that
/// `JSON.parse` reads from it: members sorted by the UTF-16 code units of their names, of repeated
/// members the last, no white space, numbers and strings as JavaScript prints them. A string that
/// starts with `encrypted_U` or `binary_U` is written without escaping; if it holds what should be
/// escaped, the result is no JSON (the reference's is not either).
///
/// What is hashed of headers and transactions is written by the reference's native core, which
/// differs from this in corners that no client reaches: see
/// [`Header::hashed_json`](crate::Header::hashed_json) and
/// [`Transaction::parse`](crate::Transaction::parse).
///
/// A text that is canonical already is returned as a slice of the input, without copying.
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

/// The text of a single message or a part of one, if it is UTF-8 and not too long.
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

/// Whose canonical JSON is to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The one of the reference's JavaScript: [`canonicalize`].
    JavaScript,
    /// The same, but with all strings escaped, so that the result is JSON for certain.
    Escaped,
    /// The one of the reference's native core, which decides the ids of headers. It sorts by code
    /// points (JavaScript by halves of surrogate pairs), prints some numbers otherwise, and
    /// escapes all strings.
    Native,
}

/// A value without repeated members, if there is no half of a surrogate pair in what is left. The
/// native core gets values so from JavaScript, and refuses those halves.
pub(crate) fn unicode<'a>(
    value: &'a str,
    member: &'static str,
) -> Result<Cow<'a, str>, DecodeError> {
    let value = last_members(value)?;
    if has_half_surrogate_pairs(&value)? {
        return Err(DecodeError::invalid(member, "free of half surrogate pairs"));
    }
    Ok(value)
}

/// A value without repeated members, if it holds half a surrogate pair anywhere: where it does
/// not, a repeated member that does not count has no effect.
pub(crate) fn last_members(value: &str) -> Result<Cow<'_, str>, DecodeError> {
    if !has_half_surrogate_pairs(value)? {
        return Ok(Cow::Borrowed(value));
    }
    let mut last_members = String::with_capacity(value.len());
    write_canonical(value, usize::MAX, Form::Escaped, &mut last_members)?;
    Ok(Cow::Owned(last_members))
}

/// Whether half a surrogate pair is in a name or a string of the value.
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

/// Whether a well-formed value is written canonically.
fn is_canonical(value: &str, depth: usize) -> Result<bool, DecodeError> {
    let mut canonical = true;
    // The last name seen in each open object; nothing in an array.
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

/// An object or array that is being written.
struct Open<'a> {
    is_object: bool,
    /// Where its first member or element begins in the output.
    start: usize,
    /// The members of an object: name, and where name and value begin in the output.
    members: Vec<(RawString<'a>, usize)>,
    is_empty: bool,
}

/// The nesting up to which JSON is written canonically: each level may copy all that is in it, to
/// sort its members. A header with the deepest `meta` has 127 levels.
const MAX_CANONICAL_DEPTH: usize = 128;

/// Appends a well-formed value canonically, unless it is nested deeper than `depth` or
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
    /// Writes what has to stand before the next part, and notes a member.
    fn before(&mut self, part: Part<'a>, out: &mut String) {
        let begins_item = !self.is_object || matches!(part, Part::Name(_));
        if begins_item && !std::mem::take(&mut self.is_empty) {
            out.push(',');
        }
        if let Part::Name(name) = part {
            self.members.push((name, out.len()));
        }
    }

    /// Sorts the members of an object that has been written completely.
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
        // A stable sort, so that of members with one name the last stays behind the others.
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

/// Whether the string is one that the reference writes without escaping.
fn is_raw(string: RawString<'_>) -> bool {
    if string.escaped {
        // The prefixes could be written with escapes themselves.
        let text = string.decode_lossy();
        RAW_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
    } else {
        RAW_PREFIXES.iter().any(|prefix| string.raw.starts_with(prefix))
    }
}
