//! Building the header of a new CoValue.

use crate::error::DecodeError;
use crate::header::{Header, Ruleset};
use crate::json;
use crate::json::string::quote;

/// JavaScript holds every integer up to this one exactly.
const MAX_EXACT_INTEGER: u64 = 1 << 53;

/// The `uniqueness` member of a header, which gives CoValues with otherwise equal headers
/// different ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uniqueness {
    /// A string. Clients use `z` and the base58 digits of 12 random bytes, or a name that the
    /// application chooses.
    Text(String),
    /// A boolean.
    Bool(bool),
    /// An integer from -2^53 to 2^53, the range that JavaScript holds exactly.
    Integer(i64),
    /// An object of strings, in any order. Names must not be empty.
    Object(Vec<(String, String)>),
    /// `null`: equal headers belong to the same CoValue.
    Null,
}

/// The operating system did not provide random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system did not provide random bytes")]
pub struct RandomnessError(#[from] getrandom::Error);

/// Why [`HeaderBuilder::build`] failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// A member has a value that [`Header::parse`] does not accept.
    #[error(transparent)]
    Invalid(#[from] DecodeError),
    /// There are no random bytes for the uniqueness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
}

/// Builds a [`Header`]; made by [`Header::builder`].
///
/// Each call of [`build`](Self::build) returns a header with a new random uniqueness, so that two
/// CoValues never share an id by accident:
///
/// ```
/// use downbeat_protocol::{Header, Ruleset};
///
/// let builder = Header::builder("comap", Ruleset::UnsafeAllowAll)
///     .created_at("2024-05-01T12:00:00.000Z");
/// assert_ne!(builder.clone().build()?, builder.build()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A *unique CoValue* is the opposite: every client computes its id from a name. Its header has
/// that name as uniqueness, and no time of creation:
///
/// ```
/// use downbeat_protocol::{CoValueId, Header, Ruleset, Uniqueness};
///
/// let group = CoValueId::parse("co_zAskbsN81tFNWPei3cnpQCwVNcA")?;
/// let settings = Header::builder("comap", Ruleset::OwnedByGroup { group })
///     .uniqueness(Uniqueness::Text("settings".to_owned()))
///     .without_created_at();
/// assert_eq!(settings.clone().build()?, settings.build()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct HeaderBuilder {
    co_type: String,
    ruleset: Ruleset,
    restrict_deletion: Option<bool>,
    meta: String,
    created_at: CreatedAt,
    /// `None` draws a random one.
    uniqueness: Option<Uniqueness>,
}

#[derive(Debug, Clone)]
enum CreatedAt {
    Absent,
    Null,
    Time(String),
}

impl HeaderBuilder {
    pub(crate) fn new(co_type: &str, ruleset: Ruleset) -> Self {
        Self {
            co_type: co_type.to_owned(),
            ruleset,
            restrict_deletion: None,
            meta: "null".to_owned(),
            created_at: CreatedAt::Null,
            uniqueness: None,
        }
    }

    /// Sets `meta`, as the text of a JSON value. The default is `null`.
    #[must_use]
    pub fn meta(mut self, json: &str) -> Self {
        json.clone_into(&mut self.meta);
        self
    }

    /// Sets the time of creation. Clients write it as `2024-05-01T12:00:00.000Z`. The default is
    /// `null`.
    #[must_use]
    pub fn created_at(mut self, time: &str) -> Self {
        self.created_at = CreatedAt::Time(time.to_owned());
        self
    }

    /// Leaves `createdAt` out, as clients do for unique CoValues and for branches. A header with
    /// `"createdAt":null` has a different id.
    #[must_use]
    pub fn without_created_at(mut self) -> Self {
        self.created_at = CreatedAt::Absent;
        self
    }

    /// Sets the uniqueness. The default is a new random text for each header.
    #[must_use]
    pub fn uniqueness(mut self, uniqueness: Uniqueness) -> Self {
        self.uniqueness = Some(uniqueness);
        self
    }

    /// Sets the uniqueness to `null`: two headers with the same other members are equal and have
    /// the same id.
    #[must_use]
    pub fn deterministic(self) -> Self {
        self.uniqueness(Uniqueness::Null)
    }

    /// Sets `ruleset.restrictDeletion`. Only a CoValue owned by a group has this member.
    #[must_use]
    pub fn restrict_deletion(mut self, restrict: bool) -> Self {
        self.restrict_deletion = Some(restrict);
        self
    }

    /// Builds the header. [`Header::parse`] describes the accepted values.
    pub fn build(self) -> Result<Header, HeaderError> {
        let owned = matches!(self.ruleset, Ruleset::OwnedByGroup { .. });
        if self.restrict_deletion.is_some() && !owned {
            return Err(DecodeError::invalid(
                "ruleset.restrictDeletion",
                "a member of this kind of ruleset",
            )
            .into());
        }
        let created_at = match self.created_at {
            CreatedAt::Absent => None,
            CreatedAt::Null => Some("null".to_owned()),
            CreatedAt::Time(time) => Some(quoted(&time)),
        };
        let uniqueness = self.uniqueness.map_or_else(Uniqueness::random, Ok)?.to_json()?;
        let ruleset = (self.ruleset, self.restrict_deletion);
        Ok(json::header::build(
            &self.co_type,
            ruleset,
            &self.meta,
            created_at.as_deref(),
            &uniqueness,
        )?)
    }
}

impl Uniqueness {
    /// A text of 12 random bytes from the operating system, as clients make it for a new CoValue.
    pub fn random() -> Result<Self, RandomnessError> {
        let mut bytes = [0; 12];
        getrandom::fill(&mut bytes)?;
        Ok(Self::from_bytes(bytes))
    }

    /// The text that clients make from 12 random bytes: `z` and base58 digits.
    pub fn from_bytes(random: [u8; 12]) -> Self {
        Self::Text(format!("z{}", bs58::encode(random).into_string()))
    }

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
    fn members_that_are_not_set_are_null() {
        assert_eq!(
            json(Header::builder("colist", Ruleset::UnsafeAllowAll).deterministic()),
            r#"{"createdAt":null,"meta":null,"ruleset":{"type":"unsafeAllowAll"},"type":"colist","uniqueness":null}"#
        );
    }

    #[test]
    fn each_header_has_its_own_random_uniqueness() {
        let (one, other) = (owned().build().unwrap(), owned().build().unwrap());
        assert_ne!(one, other);
        let text = json(owned());
        let (_, uniqueness) = text.split_once(r#""uniqueness":"z"#).unwrap();
        let digits = uniqueness.strip_suffix("\"}").unwrap();
        assert_eq!(bs58::decode(digits).into_vec().unwrap().len(), 12, "{text}");
    }

    #[test]
    fn created_at_can_be_left_out() {
        let header = owned().deterministic();
        assert!(json(header.clone()).starts_with(r#"{"createdAt":null,"meta""#));
        assert!(json(header.without_created_at()).starts_with(r#"{"meta":null,"#));
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
