//! JSON texts in the data model of `serde`, so that any format that describes itself can hold
//! what they say.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::Error as _;
use serde::{Deserializer, Serialize, Serializer};

use crate::error::DecodeError;
use crate::json::number;
use crate::json::scan::Scanner;
use crate::json::string::{RawString, quote};

/// The deepest nesting that is read and written, because both recurse. A message whose header has
/// the deepest `meta` has 128 levels.
const MAX_DEPTH: usize = 128;

/// A well-formed JSON text. It is serialized as the value that it stands for.
pub(crate) struct JsonText<'a>(pub(crate) &'a str);

/// The parts of a JSON value.
enum Value<'a> {
    Object(Vec<(Cow<'a, str>, JsonText<'a>)>),
    Array(Vec<JsonText<'a>>),
    String(RawString<'a>),
    Number(&'a str),
    Bool(bool),
    Null,
}

impl<'a> Value<'a> {
    fn read(json: &'a str) -> Result<Self, DecodeError> {
        let mut scanner = Scanner::new(json, MAX_DEPTH);
        Ok(match scanner.peek() {
            Some(b'{') => {
                let mut members = Vec::new();
                scanner.object(|scanner, name| {
                    members.push((name.decode_lossy(), JsonText(scanner.skipped()?)));
                    Ok(())
                })?;
                Self::Object(members)
            }
            Some(b'[') => {
                let mut elements = Vec::new();
                scanner.array(|scanner| {
                    elements.push(JsonText(scanner.skipped()?));
                    Ok(())
                })?;
                Self::Array(elements)
            }
            Some(b'"') => Self::String(scanner.string()?),
            Some(b'-' | b'0'..=b'9') => Self::Number(scanner.number()?),
            _ if scanner.literal("null") => Self::Null,
            _ => Self::Bool(scanner.literal("true")),
        })
    }
}

impl Serialize for JsonText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Value::read(self.0).map_err(S::Error::custom)? {
            Value::Object(members) => {
                serializer.collect_map(members.iter().map(|(name, value)| (name, value)))
            }
            Value::Array(elements) => serializer.collect_seq(&elements),
            Value::String(string) => serializer.serialize_str(&string.decode_lossy()),
            Value::Number(number) => {
                if let Ok(integer) = number.parse::<u64>() {
                    serializer.serialize_u64(integer)
                } else if let Ok(integer) = number.parse::<i64>() {
                    serializer.serialize_i64(integer)
                } else {
                    serializer.serialize_f64(number::value(number))
                }
            }
            Value::Bool(value) => serializer.serialize_bool(value),
            Value::Null => serializer.serialize_unit(),
        }
    }
}

/// Reads a value of any kind, and returns it as a JSON text.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let mut json = String::new();
    JsonWriter { out: &mut json, depth: 0 }.deserialize(from)?;
    Ok(json)
}

/// Appends a value to a JSON text.
struct JsonWriter<'a> {
    out: &'a mut String,
    depth: usize,
}

impl JsonWriter<'_> {
    /// A writer for what is inside the object or array here.
    fn nested<E: Error>(&mut self) -> Result<JsonWriter<'_>, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!("nested more than {MAX_DEPTH} levels deep")));
        }
        Ok(JsonWriter { out: self.out, depth: self.depth + 1 })
    }

    fn again(&mut self) -> JsonWriter<'_> {
        JsonWriter { out: self.out, depth: self.depth }
    }
}

impl<'de> DeserializeSeed<'de> for JsonWriter<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JsonWriter<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.out.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.out.push_str(&value.to_string());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.out.push_str(&value.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.out.push_str(&number::print(value));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        quote(text, self.out);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.out.push_str("null");
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        self.deserialize(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        let mut inside = self.nested()?;
        inside.out.push('[');
        while elements.next_element_seed(inside.again())?.is_some() {
            inside.out.push(',');
        }
        close(inside.out, ']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        let mut inside = self.nested()?;
        inside.out.push('{');
        while let Some(name) = members.next_key::<String>()? {
            quote(&name, inside.out);
            inside.out.push(':');
            members.next_value_seed(inside.again())?;
            inside.out.push(',');
        }
        close(inside.out, '}');
        Ok(())
    }
}

/// Ends an object or array after its last comma.
fn close(out: &mut String, bracket: char) {
    if out.ends_with(',') {
        out.pop();
    }
    out.push(bracket);
}
