//! Parsing headers, and writing them canonically.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::{DecodeError, Limit};
use crate::header::{Header, Ruleset};
use crate::id::{CoValueId, Owner};
use crate::json::canonical::{
    Form, has_half_surrogate_pairs, last_members, unicode, write_canonical,
};
use crate::json::number;
use crate::json::scan::Scanner;
use crate::json::slot::Slot;
use crate::json::string::quote;
use crate::json::value;
use crate::limits::Limits;

/// The bound, exclusive, on the magnitude of an integer `uniqueness` in the reference's native
/// core. JavaScript prints the bound itself as a larger number than 2^63.
const UNIQUENESS_BOUND: f64 = 9_223_372_036_854_775_808.0;

/// The maximum depth of `meta`. The parser in the reference's native core fails at 128 levels, so
/// no client accepts a deeper header.
const MAX_META_DEPTH: usize = 126;

/// Parses a text that is a header.
pub(crate) fn parse(text: &str, limits: &Limits) -> Result<Header, DecodeError> {
    if text.len() > limits.header_bytes {
        return Err(DecodeError::limit(Limit::HeaderBytes, limits.header_bytes));
    }
    let text = whole(text, limits.depth, Scanner::skipped)?;
    let text = last_members(text)?;
    let mut scanner = Scanner::new(&text, usize::MAX);
    value::expect_object(&mut scanner, "header")?;
    if matches!(text, Cow::Owned(_)) {
        check_unicode(&text)?;
    }
    let mut created_at = Slot::empty();
    let mut meta = Slot::empty();
    let mut ruleset = Slot::empty();
    let mut co_type = Slot::empty();
    let mut uniqueness = Slot::empty();
    scanner.object(|scanner, name| match name.decode().as_deref() {
        Some("createdAt") => created_at.fill(scanner, read_created_at),
        Some("meta") => meta.fill(scanner, read_meta),
        Some("ruleset") => ruleset.fill(scanner, read_ruleset),
        Some("type") => co_type.fill(scanner, |s| value::text(s, "type")),
        Some("uniqueness") => uniqueness.fill(scanner, read_uniqueness),
        _ => scanner.skip(),
    })?;
    Members {
        created_at: created_at.optional()?,
        meta: meta.optional()?.unwrap_or(Meta::NULL),
        ruleset: ruleset.required("ruleset")?,
        co_type: co_type.required("type")?,
        uniqueness: uniqueness.optional()?,
    }
    .into_header()
}

/// Checks that only the values of dropped members have lone surrogates.
fn check_unicode(header: &str) -> Result<(), DecodeError> {
    const KEPT: [&str; 5] = ["createdAt", "meta", "ruleset", "type", "uniqueness"];
    Scanner::new(header, usize::MAX).object(|scanner, name| {
        let value = scanner.skipped()?;
        let is_dropped = name.decode().is_some_and(|name| !KEPT.contains(&&*name));
        if !is_dropped && (name.decode().is_none() || has_half_surrogate_pairs(value)?) {
            return Err(DecodeError::invalid("header", "free of lone surrogates"));
        }
        Ok(())
    })
}

/// Makes a header from a ruleset and the JSON of its other members.
pub(crate) fn build(
    co_type: &str,
    ruleset: (Ruleset, Option<bool>),
    meta: &str,
    created_at: Option<&str>,
    uniqueness: &str,
) -> Result<Header, DecodeError> {
    let meta = unicode(whole(meta, usize::MAX, Scanner::skipped)?, "meta")?;
    Members {
        created_at: created_at.map(|json| whole(json, usize::MAX, read_created_at)).transpose()?,
        meta: whole(&meta, usize::MAX, read_meta)?,
        ruleset,
        co_type: co_type.into(),
        uniqueness: Some(whole(uniqueness, usize::MAX, read_uniqueness)?),
    }
    .into_header()
}

/// Reads a text that is one value.
fn whole<'a, T>(
    text: &'a str,
    max_depth: usize,
    read: impl FnOnce(&mut Scanner<'a>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let mut scanner = Scanner::new(text, max_depth);
    let value = read(&mut scanner)?;
    scanner.end()?;
    Ok(value)
}

struct Members<'a> {
    /// JSON, like `meta` and `uniqueness`.
    created_at: Option<&'a str>,
    meta: Meta<'a>,
    ruleset: (Ruleset, Option<bool>),
    co_type: Cow<'a, str>,
    uniqueness: Option<&'a str>,
}

impl Members<'_> {
    fn into_header(self) -> Result<Header, DecodeError> {
        let json = self.write(Form::Escaped)?;
        // The forms differ only in numbers and in the order of names.
        let can_differ = [Some(self.meta.json), self.uniqueness]
            .into_iter()
            .flatten()
            .any(|json| !matches!(json.as_bytes().first(), Some(b'n' | b't' | b'f' | b'"')));
        let hashed = if can_differ { self.write(Form::Native)? } else { json.clone() };
        let (ruleset, restrict_deletion) = self.ruleset;
        Ok(Header::new(
            json,
            hashed,
            &self.co_type,
            ruleset,
            restrict_deletion == Some(true),
            self.meta.co_type.as_deref(),
            self.meta.source,
        ))
    }

    fn write(&self, form: Form) -> Result<Bytes, DecodeError> {
        let (ruleset, restrict_deletion) = &self.ruleset;
        let mut json = Writer { form, text: String::new() };
        if let Some(created_at) = self.created_at {
            json.member("createdAt", created_at)?;
        }
        json.member("meta", self.meta.json)?;
        json.ruleset(ruleset, *restrict_deletion);
        json.string("type", &self.co_type);
        if let Some(uniqueness) = self.uniqueness {
            json.member("uniqueness", uniqueness)?;
        }
        json.text.push('}');
        Ok(json.text.into())
    }
}

struct Meta<'a> {
    json: &'a str,
    co_type: Option<Cow<'a, str>>,
    source: Option<CoValueId>,
}

impl Meta<'_> {
    /// The value for an absent meta.
    const NULL: Self = Self { json: "null", co_type: None, source: None };
}

/// A value of any type. The protocol uses two members of an object.
fn read_meta<'a>(scanner: &mut Scanner<'a>) -> Result<Meta<'a>, DecodeError> {
    let json = scanner.skipped()?;
    if Scanner::new(json, MAX_META_DEPTH).skip().is_err() {
        return Err(DecodeError::invalid("meta", "nested at most 126 levels deep"));
    }
    let mut co_type = Slot::empty();
    let mut source = Slot::empty();
    let mut meta = Scanner::new(json, usize::MAX);
    if meta.peek() == Some(b'{') {
        meta.object(|meta, name| match name.decode().as_deref() {
            Some("type") => co_type.fill(meta, |s| value::text(s, "meta.type")),
            Some("source") => source.fill(meta, read_source),
            _ => meta.skip(),
        })?;
    }
    // The protocol has no use for a type that is not a string.
    Ok(Meta { json, co_type: co_type.valid(), source: source.optional()?.flatten() })
}

/// The source of a branch. The reference accepts every "truthy" value as an id, and waits for a
/// CoValue that cannot exist.
fn read_source(scanner: &mut Scanner<'_>) -> Result<Option<CoValueId>, DecodeError> {
    match scanner.peek() {
        Some(b'"') => {
            let id = value::text(scanner, "meta.source")?;
            if id.is_empty() { Ok(None) } else { Ok(Some(CoValueId::parse(&id)?)) }
        }
        Some(b'n' | b'f') => scanner.skip().map(|()| None),
        Some(b'-' | b'0'..=b'9') => match number::value(scanner.number()?) {
            // JavaScript turns a number that is too large into null.
            0.0 | f64::INFINITY | f64::NEG_INFINITY => Ok(None),
            _ => Err(DecodeError::invalid("meta.source", "a CoValue id")),
        },
        _ => Err(DecodeError::invalid("meta.source", "a CoValue id")),
    }
}

/// The ruleset and `restrictDeletion`. Other members are dropped, as in the reference's native
/// core.
fn read_ruleset(scanner: &mut Scanner<'_>) -> Result<(Ruleset, Option<bool>), DecodeError> {
    value::expect_object(scanner, "ruleset")?;
    let mut kind = Slot::empty();
    let mut initial_admin = Slot::empty();
    let mut group = Slot::empty();
    let mut restrict_deletion = Slot::empty();
    scanner.object(|scanner, name| match name.decode().as_deref() {
        Some("type") => kind.fill(scanner, |s| value::text(s, "ruleset.type")),
        Some("initialAdmin") => {
            initial_admin.fill(scanner, |s| value::text(s, "ruleset.initialAdmin"))
        }
        Some("group") => group.fill(scanner, |s| value::text(s, "ruleset.group")),
        Some("restrictDeletion") => restrict_deletion.fill(scanner, |s| {
            value::json_nullable(s, |s| value::boolean(s, "ruleset.restrictDeletion"))
        }),
        _ => scanner.skip(),
    })?;
    match &*kind.required("ruleset.type")? {
        "group" => {
            let initial_admin = Owner::parse(&initial_admin.required("ruleset.initialAdmin")?)?;
            Ok((Ruleset::Group { initial_admin }, None))
        }
        "ownedByGroup" => {
            let group = CoValueId::parse(&group.required("ruleset.group")?)?;
            Ok((Ruleset::OwnedByGroup { group }, restrict_deletion.optional()?.flatten()))
        }
        "unsafeAllowAll" => Ok((Ruleset::UnsafeAllowAll, None)),
        _ => {
            Err(DecodeError::invalid("ruleset.type", "`group`, `ownedByGroup` or `unsafeAllowAll`"))
        }
    }
}

/// `null` or any string.
fn read_created_at<'a>(scanner: &mut Scanner<'a>) -> Result<&'a str, DecodeError> {
    let expected = DecodeError::invalid("createdAt", "null or a string");
    let created_at = value::json_nullable(scanner, |scanner| match scanner.peek() {
        Some(b'"') => scanner.skipped(),
        _ => Err(expected),
    })?;
    Ok(created_at.unwrap_or("null"))
}

/// A string, a boolean, `null`, an integer, or an object of strings with non-empty names.
fn read_uniqueness<'a>(scanner: &mut Scanner<'a>) -> Result<&'a str, DecodeError> {
    let kind = scanner.peek();
    let json = scanner.skipped()?;
    let mut value = Scanner::new(json, usize::MAX);
    let fits = match kind {
        Some(b'{') => {
            // The last of repeated members counts.
            let mut fit = BTreeMap::new();
            value.object(|value, name| {
                let fits = !name.raw.is_empty() && value.peek() == Some(b'"');
                fit.insert(name.decode_lossy(), fits);
                value.skip()
            })?;
            fit.into_values().all(|fits| fits)
        }
        Some(b'-' | b'0'..=b'9') => {
            let number = number::value(json);
            // JavaScript turns a number that is too large into null.
            number.is_infinite() || (number.fract() == 0.0 && number.abs() < UNIQUENESS_BOUND)
        }
        kind => kind != Some(b'['),
    };
    if !fits {
        return Err(DecodeError::invalid(
            "uniqueness",
            "a string, true, false, null, an integer of 64 bits or an object of strings with names",
        ));
    }
    Ok(json)
}

/// Writes the members of a header, which come in canonical order.
struct Writer {
    form: Form,
    text: String,
}

impl Writer {
    /// Writes a member whose value is well-formed JSON.
    fn member(&mut self, name: &str, json: &str) -> Result<(), DecodeError> {
        self.name(name);
        write_canonical(json, usize::MAX, self.form, &mut self.text)
    }

    fn string(&mut self, name: &str, value: &str) {
        self.name(name);
        quote(value, &mut self.text);
    }

    fn ruleset(&mut self, ruleset: &Ruleset, restrict_deletion: Option<bool>) {
        self.name("ruleset");
        let (id, kind) = match ruleset {
            Ruleset::Group { initial_admin } => {
                (Some(("initialAdmin", initial_admin.as_str())), "group")
            }
            Ruleset::OwnedByGroup { group } => (Some(("group", group.as_str())), "ownedByGroup"),
            Ruleset::UnsafeAllowAll => (None, "unsafeAllowAll"),
        };
        self.text.push('{');
        if let Some((name, id)) = id {
            // Ids never need escapes.
            for part in ["\"", name, "\":\"", id, "\","] {
                self.text.push_str(part);
            }
        }
        match restrict_deletion {
            Some(true) => self.text.push_str("\"restrictDeletion\":true,"),
            Some(false) => self.text.push_str("\"restrictDeletion\":false,"),
            None => {}
        }
        for part in ["\"type\":\"", kind, "\"}"] {
            self.text.push_str(part);
        }
    }

    fn name(&mut self, name: &str) {
        self.text.push(if self.text.is_empty() { '{' } else { ',' });
        self.text.push('"');
        self.text.push_str(name);
        self.text.push_str("\":");
    }
}
