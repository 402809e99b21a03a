//! Parsing the changes of group transactions as JavaScript parses them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of a change that roles and dependencies depend on.
///
/// The parser accepts exactly what `JSON.parse` accepts: numbers of any size, lone surrogates in
/// strings, any depth, and the last of repeated members. A stricter parser would find other roles
/// than clients do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Change<'a> {
    op: Value<'a>,
    key: Value<'a>,
    value: Value<'a>,
}

/// A member of a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Value<'a> {
    /// The member is missing.
    #[default]
    Absent,
    /// A string.
    Text(Text<'a>),
    /// A value of another type.
    Other,
}

/// A JSON string in UTF-8, with lone surrogates encoded like other code points.
type Text<'a> = Cow<'a, [u8]>;

impl<'a> Change<'a> {
    /// The changes of a transaction, or `None` if the text is not a JSON array. Each is parsed when
    /// it is taken.
    pub(crate) fn parse_all(changes: &'a str) -> Option<impl ExactSizeIterator<Item = Self>> {
        let elements: Vec<&'a RawValue> = serde_json::from_str(changes).ok()?;
        Some(elements.into_iter().map(|element| Self::parse(element.get())))
    }

    /// The key that this change sets, if it sets one and the key is valid Unicode.
    pub(crate) fn set_key(&self) -> Option<&str> {
        (self.op.as_text() == Some("set")).then(|| self.key.as_text()).flatten()
    }

    /// The value that this change sets.
    pub(crate) fn value(&self) -> &Value<'a> {
        &self.value
    }

    /// Parses one element. An element that is not an object changes nothing.
    fn parse(element: &'a str) -> Self {
        let mut change = Change::default();
        for_each_member(element, |name, value| match name {
            b"op" => change.op = Value::parse(value),
            b"key" => change.key = Value::parse(value),
            b"value" => change.value = Value::parse(value),
            _ => {}
        })
        .map_or_else(Change::default, |()| change)
    }
}

impl<'a> Value<'a> {
    /// The text, if this is a string of valid Unicode.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => str::from_utf8(text).ok(),
            Self::Absent | Self::Other => None,
        }
    }

    fn parse(value: &'a str) -> Self {
        text(value).map_or(Self::Other, Self::Text)
    }
}

/// The value of a member, if `object` is a JSON object and the member a string. The last of
/// repeated members counts.
pub(crate) fn text_member(object: &str, member: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    for_each_member(object, |name, value| {
        if name == member {
            found = text(value).map(Cow::into_owned);
        }
    })?;
    found
}

/// Calls `member` with the name and value of each member of a JSON object. Returns `None` if the
/// text is not a JSON object, possibly after some calls.
fn for_each_member<'a>(object: &'a str, member: impl FnMut(&[u8], &'a str)) -> Option<()> {
    let mut reader = serde_json::Deserializer::from_str(object);
    reader.deserialize_map(MemberVisitor(member)).ok()?;
    reader.end().ok()
}

struct MemberVisitor<F>(F);

impl<'de, F: FnMut(&[u8], &'de str)> Visitor<'de> for MemberVisitor<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key_seed(TextSeed)? {
            (self.0)(&name, members.next_value::<&RawValue>()?.get());
        }
        Ok(())
    }
}

/// The contents of a JSON value that is a string.
fn text(value: &str) -> Option<Text<'_>> {
    if !value.starts_with('"') {
        return None;
    }
    TextSeed.deserialize(&mut serde_json::Deserializer::from_str(value)).ok()
}

/// Reads a string as bytes, because `serde_json` accepts lone surrogates only there.
struct TextSeed;

impl<'de> DeserializeSeed<'de> for TextSeed {
    type Value = Text<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for TextSeed {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(changes: &str) -> Change<'_> {
        let mut changes = Change::parse_all(changes).unwrap();
        assert_eq!(changes.len(), 1);
        changes.next().unwrap()
    }

    #[test]
    fn a_set_change_has_key_and_value() {
        let change = only(r#"[ {"op":"set","key":"co_z1","value":"admin"} ]"#);
        assert_eq!((change.set_key(), change.value().as_text()), (Some("co_z1"), Some("admin")));
        assert_eq!(only(r#"[{"op":"del","key":"co_z1"}]"#).set_key(), None);
        assert_eq!(only(r#"[{"op":"set","key":5}]"#).set_key(), None);
    }

    #[test]
    fn escapes_are_resolved_and_the_last_of_repeated_members_counts() {
        let change = only(r#"[{"op":"del","op":"s\u0065t","key":"a","\u006bey":"b"}]"#);
        assert_eq!(change.set_key(), Some("b"));
    }

    #[test]
    fn what_javascript_reads_is_read() {
        for odd in [
            r#"[{"x":1e999,"op":"set","key":"k"}]"#.to_owned(),
            r#"[{"x":"\ud800","op":"set","key":"k"}]"#.to_owned(),
            r#"[{"\ud800":0,"op":"set","key":"k"}]"#.to_owned(),
            format!(r#"[{{"x":{}{},"op":"set","key":"k"}}]"#, "[".repeat(500), "]".repeat(500)),
        ] {
            assert_eq!(only(&odd).set_key(), Some("k"), "{odd}");
        }
        assert_eq!(only(r#"[{"op":"set","key":"\ud800"}]"#).set_key(), None);
    }

    #[test]
    fn elements_that_are_no_objects_change_nothing() {
        let changes = Change::parse_all(r#"[null, 1, "set", ["op"], true]"#).unwrap();
        assert_eq!(changes.collect::<Vec<_>>(), vec![Change::default(); 5]);
    }

    #[test]
    fn what_is_no_array_of_json_is_nothing() {
        for bad in ["", "{}", "null", "[", "[]x", "[01]", r#"["\x"]"#, "[\"\u{1}\"]"] {
            assert!(Change::parse_all(bad).is_none(), "{bad}");
        }
    }
}
