//! Making headers of one's own.

use crate::error::DecodeError;
use crate::header::{Header, Ruleset};
use crate::json;
use crate::json::string::quote;

/// Up to here JavaScript holds every integer.
const MAX_EXACT_INTEGER: u64 = 1 << 53;

/// What tells a CoValue from others with the same type, ruleset, meta and time of creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uniqueness {
    /// A text, which for most CoValues is `z` and base58 digits of random bytes.
    Text(String),
    /// A truth value.
    Bool(bool),
    /// An integer, which must be one that JavaScript holds exactly: from -2^53 to 2^53.
    Integer(i64),
    /// An object of texts, in any order. Their names may not be empty.
    Object(Vec<(String, String)>),
    /// `null`: nothing, so that equal headers mean the same CoValue.
    Null,
}

/// Builds a [`Header`]; made by [`Header::builder`].
///
/// # Examples
///
/// ```
/// use downbeat_protocol::{CoValueId, Header, Ruleset, Uniqueness};
///
/// let group = CoValueId::parse("co_zAskbsN81tFNWPei3cnpQCwVNcA")?;
/// let header = Header::builder("costream", Ruleset::OwnedByGroup { group })
///     .meta(r#"{ "type": "binary" }"#)
///     .created_at("2024-05-01T12:00:00.000Z")
///     .uniqueness(Uniqueness::Text("z4br3F6sRwRzoY4hy9".into()))
///     .build()?;
///
/// assert_eq!(header.meta_type(), Some("binary"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct HeaderBuilder {
    co_type: String,
    ruleset: Ruleset,
    restrict_deletion: Option<bool>,
    meta: String,
    created_at: Option<String>,
    uniqueness: Uniqueness,
}

impl HeaderBuilder {
    pub(crate) fn new(co_type: &str, ruleset: Ruleset) -> Self {
        Self {
            co_type: co_type.to_owned(),
            ruleset,
            restrict_deletion: None,
            meta: "null".to_owned(),
            created_at: None,
            uniqueness: Uniqueness::Null,
        }
    }

    /// Sets the meta, as the text of a JSON value: an object or, unless this is called, `null`.
    #[must_use]
    pub fn meta(mut self, json: &str) -> Self {
        json.clone_into(&mut self.meta);
        self
    }

    /// Sets the time of creation, which by custom is written as `2024-05-01T12:00:00.000Z`. It is
    /// `null` unless this is called.
    #[must_use]
    pub fn created_at(mut self, time: &str) -> Self {
        self.created_at = Some(time.to_owned());
        self
    }

    /// Sets what tells this CoValue from its like: `null` unless this is called.
    #[must_use]
    pub fn uniqueness(mut self, uniqueness: Uniqueness) -> Self {
        self.uniqueness = uniqueness;
        self
    }

    /// Sets `restrictDeletion`, which only a CoValue owned by a group can have.
    #[must_use]
    pub fn restrict_deletion(mut self, restrict: bool) -> Self {
        self.restrict_deletion = Some(restrict);
        self
    }

    /// The header, if the parts make one: [`Header::parse`] says what is accepted.
    pub fn build(self) -> Result<Header, DecodeError> {
        let owned = matches!(self.ruleset, Ruleset::OwnedByGroup { .. });
        if self.restrict_deletion.is_some() && !owned {
            return Err(DecodeError::invalid(
                "ruleset.restrictDeletion",
                "a member of this kind of ruleset",
            ));
        }
        let created_at = self.created_at.map_or_else(|| "null".to_owned(), |time| quoted(&time));
        let ruleset = (self.ruleset, self.restrict_deletion);
        let uniqueness = self.uniqueness.to_json()?;
        json::header::build(&self.co_type, ruleset, &self.meta, &created_at, &uniqueness)
    }
}

impl Uniqueness {
    fn to_json(&self) -> Result<String, DecodeError> {
        Ok(match self {
            Self::Text(text) => quoted(text),
            Self::Bool(value) => value.to_string(),
            Self::Integer(integer) if integer.unsigned_abs() <= MAX_EXACT_INTEGER => {
                integer.to_string()
            }
            Self::Integer(_) => {
                return Err(DecodeError::invalid("uniqueness", "from -2^53 to 2^53"));
            }
            Self::Object(members) => {
                let members: Vec<_> = members
                    .iter()
                    .map(|(name, text)| format!("{}:{}", quoted(name), quoted(text)))
                    .collect();
                format!("{{{}}}", members.join(","))
            }
            Self::Null => "null".to_owned(),
        })
    }
}

fn quoted(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    quote(text, &mut json);
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CoValueId, Limits};

    fn owned() -> HeaderBuilder {
        let group = CoValueId::parse("co_z1").unwrap();
        Header::builder("comap", Ruleset::OwnedByGroup { group })
    }

    fn json(builder: HeaderBuilder) -> String {
        let header = builder.build().unwrap();
        assert_eq!(Header::parse(header.json(), &Limits::default()).as_ref(), Ok(&header));
        String::from_utf8(header.json().to_vec()).unwrap()
    }

    #[test]
    fn what_is_not_set_is_null() {
        assert_eq!(
            json(Header::builder("colist", Ruleset::UnsafeAllowAll)),
            r#"{"createdAt":null,"meta":null,"ruleset":{"type":"unsafeAllowAll"},"type":"colist","uniqueness":null}"#
        );
    }

    #[test]
    fn every_form_of_uniqueness_is_written_canonically() {
        let object = vec![("b".into(), "\n".into()), ("a".into(), "é".into())];
        for (uniqueness, expected) in [
            (Uniqueness::Text("z\"".into()), r#""z\"""#),
            (Uniqueness::Bool(true), "true"),
            (Uniqueness::Integer(-5), "-5"),
            (Uniqueness::Integer(1 << 53), "9007199254740992"),
            (Uniqueness::Object(object), r#"{"a":"é","b":"\n"}"#),
            (Uniqueness::Null, "null"),
        ] {
            let json = json(owned().uniqueness(uniqueness));
            assert!(json.ends_with(&format!(r#""uniqueness":{expected}}}"#)), "{json}");
        }
        assert!(owned().uniqueness(Uniqueness::Integer((1 << 53) + 1)).build().is_err());
    }

    #[test]
    fn restrict_deletion_belongs_to_values_owned_by_a_group() {
        let header = owned().restrict_deletion(true).build().unwrap();
        assert!(header.restricts_deletion());
        assert!(json(owned().restrict_deletion(false)).contains(r#""restrictDeletion":false"#));
        let group = Header::builder("comap", Ruleset::UnsafeAllowAll);
        assert!(group.restrict_deletion(true).build().is_err());
    }

    #[test]
    fn meta_is_one_json_value_and_cannot_reach_beyond_itself() {
        assert!(json(owned().meta(r#"{ "b": 1.0, "a": [] }"#)).contains(r#"{"a":[],"b":1}"#));
        for bad in ["", "{", r#"null,"type":"x""#, r#"{"source":"co_y"}"#] {
            assert!(owned().meta(bad).build().is_err(), "{bad}");
        }
    }
}
