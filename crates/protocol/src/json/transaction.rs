//! Parsing transactions, and writing them canonically.

use std::borrow::Cow;

use bytes::Bytes;

use crate::error::DecodeError;
use crate::json::canonical::{check_text, unicode};
use crate::json::number;
use crate::json::scan::{Scanner, find_special};
use crate::json::slot::Slot;
use crate::json::string::{RawString, quote};
use crate::json::value;
use crate::limits::Limits;
use crate::transaction::{Privacy, Transaction};

/// The upper bound, exclusive, of `madeAt` in the reference's native core.
const MADE_AT_BOUND: f64 = 18_446_744_073_709_551_616.0;

/// Parses a text that is a transaction.
pub(crate) fn parse(json: &Bytes, limits: &Limits) -> Result<Transaction, DecodeError> {
    let mut scanner = Scanner::new(check_text(json, limits)?, limits.depth);
    let transaction = read(&mut scanner, json)?;
    scanner.end()?;
    Ok(transaction)
}

/// Parses a text that is a canonical transaction.
pub(crate) fn parse_canonical(json: &Bytes, limits: &Limits) -> Result<Transaction, DecodeError> {
    let text = check_text(json, limits)?;
    let has_controls = text.bytes().fold(u8::MAX, u8::min) < 0x20;
    if let Some(parts) = Parts::of_canonical(text, false)
        && parts.len == text.len()
        && !has_controls
    {
        return Ok(parts.with_json(json.clone()));
    }
    // The fast check misses canonical transactions with a time of more than 15 digits.
    let transaction = parse(json, limits)?;
    if transaction.json != *json {
        return Err(DecodeError::Binary("a transaction is not canonical".to_owned()));
    }
    Ok(transaction)
}

/// Reads the transaction at the scanner, whose text is a part of `bytes`.
///
/// The canonical form, which is hashed and signed, is that of the reference's native core: it has
/// the sorted members of one of the two forms and no others. These members, and not `privacy`,
/// decide whether it is private.
pub(crate) fn read(scanner: &mut Scanner<'_>, bytes: &Bytes) -> Result<Transaction, DecodeError> {
    scanner.peek();
    let start = scanner.pos();
    let here = scanner.text().get(start..).unwrap_or_default();
    if let Some(parts) = Parts::of_canonical(here, scanner.is_ascii())
        && scanner.is_free_of_controls(parts.len)
    {
        scanner.jump(start + parts.len);
        let json = scanner.since(start);
        Ok(parts.with_json(bytes.slice_ref(json.as_bytes())))
    } else {
        read_any(scanner)
    }
}

/// Writes a transaction canonically. A trusting transaction has no key.
pub(crate) fn build(
    changes: &str,
    key_used: Option<&str>,
    made_at: f64,
    meta: Option<&str>,
) -> Transaction {
    let privacy = if key_used.is_some() { Privacy::Private } else { Privacy::Trusting };
    let mut json = String::with_capacity(
        changes.len() + key_used.map_or(0, str::len) + meta.map_or(0, str::len) + FIXED_LEN,
    );
    json.push_str(changes_prefix(privacy));
    quote(changes, &mut json);
    if let Some(key_used) = key_used {
        json.push_str(KEY_USED);
        quote(key_used, &mut json);
    }
    json.push_str(MADE_AT);
    json.push_str(&number::print(made_at));
    if let Some(meta) = meta {
        json.push_str(META);
        quote(meta, &mut json);
    }
    json.push_str(privacy_suffix(privacy));
    Transaction {
        json: json.into(),
        privacy,
        made_at,
        changes_len: saturated(changes.len()),
        is_ascii: changes.is_ascii(),
    }
}

/// The strings of a transaction.
pub(crate) struct Strings<'a> {
    pub(crate) changes: Cow<'a, str>,
    pub(crate) key_used: Option<Cow<'a, str>>,
    pub(crate) meta: Option<Cow<'a, str>>,
}

/// Reads the strings of a transaction from its canonical JSON.
pub(crate) fn strings(json: &str, privacy: Privacy) -> Option<Strings<'_>> {
    let (changes, mut rest) = raw_string(json.strip_prefix(changes_prefix(privacy))?)?;
    let mut key_used = None;
    if privacy == Privacy::Private {
        let (key, after_key) = raw_string(rest.strip_prefix(KEY_USED)?)?;
        key_used = Some(key.decode()?);
        rest = after_key;
    }
    let rest = rest.strip_prefix(MADE_AT)?.trim_start_matches(|c: char| c.is_ascii_digit());
    let meta = match rest.strip_prefix(META) {
        Some(meta) => Some(raw_string(meta)?.0.decode()?),
        None => None,
    };
    Some(Strings { changes: changes.decode()?, key_used, meta })
}

const KEY_USED: &str = ",\"keyUsed\":";
const MADE_AT: &str = ",\"madeAt\":";
const META: &str = ",\"meta\":";

/// Room for the other parts of a transaction than its strings.
const FIXED_LEN: usize = 100;

const fn changes_prefix(privacy: Privacy) -> &'static str {
    match privacy {
        Privacy::Private => "{\"encryptedChanges\":",
        Privacy::Trusting => "{\"changes\":",
    }
}

const fn privacy_suffix(privacy: Privacy) -> &'static str {
    match privacy {
        Privacy::Private => ",\"privacy\":\"private\"}",
        Privacy::Trusting => ",\"privacy\":\"trusting\"}",
    }
}

/// The facts about a canonical transaction.
struct Parts {
    /// The length of its text.
    len: usize,
    privacy: Privacy,
    made_at: f64,
    changes_len: usize,
    is_ascii: bool,
}

impl Parts {
    /// Reads the canonical transaction at the start of the text. Returns `None` if it is not
    /// canonical or not a transaction. Does not check for control characters.
    fn of_canonical(text: &str, text_is_ascii: bool) -> Option<Self> {
        let privacy = match text.as_bytes().get(2)? {
            b'e' => Privacy::Private,
            _ => Privacy::Trusting,
        };
        let changes = text.strip_prefix(changes_prefix(privacy))?;
        let (changes_len, mut rest) = canonical_string(changes)?;
        let changes_text = changes.as_bytes().get(..changes.len() - rest.len())?;
        let is_ascii = text_is_ascii || changes_text.is_ascii();
        if privacy == Privacy::Private {
            (_, rest) = canonical_string(rest.strip_prefix(KEY_USED)?)?;
        }
        let made_at;
        (made_at, rest) = number::plain_integer(rest.strip_prefix(MADE_AT)?)?;
        if let Some(meta) = rest.strip_prefix(META) {
            (_, rest) = canonical_string(meta)?;
        }
        rest = rest.strip_prefix(privacy_suffix(privacy))?;
        Some(Self { len: text.len() - rest.len(), privacy, made_at, changes_len, is_ascii })
    }

    fn with_json(self, json: Bytes) -> Transaction {
        Transaction {
            json,
            privacy: self.privacy,
            made_at: self.made_at,
            changes_len: saturated(self.changes_len),
            is_ascii: self.is_ascii,
        }
    }
}

/// Reads a transaction that is not canonical.
fn read_any(scanner: &mut Scanner<'_>) -> Result<Transaction, DecodeError> {
    value::expect_object(scanner, "newTransactions[]")?;
    let text = unicode(scanner.skipped()?, "newTransactions[]")?;
    let mut scanner = Scanner::new(&text, usize::MAX);
    let mut encrypted_changes = Slot::empty();
    let mut changes = Slot::empty();
    let mut key_used = Slot::empty();
    let mut made_at = Slot::empty();
    let mut meta = Slot::empty();
    let mut privacy = Slot::empty();
    scanner.object(|scanner, name| match name.decode().as_deref() {
        Some("encryptedChanges") => {
            encrypted_changes.fill(scanner, |s| value::text(s, "encryptedChanges"))
        }
        Some("changes") => changes.fill(scanner, |s| value::text(s, "changes")),
        Some("keyUsed") => key_used.fill(scanner, |s| value::text(s, "keyUsed")),
        Some("madeAt") => made_at.fill(scanner, read_made_at),
        Some("meta") => meta.fill(scanner, |s| value::json_nullable(s, |s| value::text(s, "meta"))),
        Some("privacy") => privacy.fill(scanner, |s| value::text(s, "privacy")),
        _ => scanner.skip(),
    })?;
    let made_at = made_at.required("madeAt")?;
    let meta = meta.optional()?.flatten();
    privacy.required("privacy")?;
    if let (Some(changes), Some(key)) = (encrypted_changes.valid(), key_used.valid()) {
        return Ok(build(&changes, Some(&key), made_at, meta.as_deref()));
    }
    let changes = changes.required("changes")?;
    Ok(build(&changes, None, made_at, meta.as_deref()))
}

fn read_made_at(scanner: &mut Scanner<'_>) -> Result<f64, DecodeError> {
    let expected = DecodeError::invalid("madeAt", "a whole number from 0 up to 2^64");
    if !matches!(scanner.peek(), Some(b'-' | b'0'..=b'9')) {
        return Err(expected);
    }
    let made_at = number::value(scanner.number()?);
    number::integer_below(made_at, MADE_AT_BOUND).map(|_| made_at).ok_or(expected)
}

/// Reads the string that the text starts with, if it is canonical. Returns the length of what it
/// stands for, in bytes of UTF-8, and the text behind it.
fn canonical_string(text: &str) -> Option<(usize, &str)> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    let mut escapes = 0;
    loop {
        at += find_special(bytes.get(at..)?, escapes > 0)?;
        match bytes.get(at..)? {
            [b'"', ..] => return Some((at - 1 - escapes, text.get(at + 1..)?)),
            [b'\\', b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't', ..] => {
                at += 2;
                escapes += 1;
            }
            [b'\\', b'u', b'0', b'0', b'0', b'0'..=b'7' | b'b' | b'e' | b'f', ..]
            | [b'\\', b'u', b'0', b'0', b'1', b'0'..=b'9' | b'a'..=b'f', ..] => {
                at += 6;
                escapes += 5;
            }
            _ => return None,
        }
    }
}

/// The string that the text starts with, and what follows. For text that is known to be JSON.
fn raw_string(text: &str) -> Option<(RawString<'_>, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut at = 0;
    let mut escaped = false;
    loop {
        at += find_special(inner.as_bytes().get(at..)?, escaped)?;
        if inner.as_bytes().get(at) == Some(&b'"') {
            return Some((RawString { raw: inner.get(..at)?, escaped }, inner.get(at + 1..)?));
        }
        escaped = true;
        at += 2;
    }
}

fn saturated(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
