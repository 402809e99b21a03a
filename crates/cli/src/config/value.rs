//! The types of setting values. Each type parses its text, whether it comes from a flag, a variable
//! or a file.

mod web;

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueHint;
use downbeat_protocol::CoValueId;
use downbeat_transport::net::{ForwardedHeader, Network};
use serde_json::Value as Json;

pub(crate) use self::web::{Host, HostName, Site, UpstreamUrl};
use super::units::{parse_duration, parse_size, show_duration, show_size};
use crate::storage::{DurabilityChoice, StorageChoice, StorageFormat};

/// How often a setting can be given, and whether it needs a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One value.
    One,
    /// True or false. The flag without a value means true.
    Switch,
    /// Any number of values.
    Many,
}

/// A single value: a setting, or an item of a list.
pub(crate) trait Scalar: Sized {
    /// The shape of a setting with one such value.
    const SHAPE: Shape = Shape::One;
    /// The possible values, if there is a fixed list.
    const CHOICES: &'static [&'static str] = &[];
    /// The hint for shell completion.
    const HINT: ValueHint = ValueHint::Other;

    /// Parses a text. The error states the expected text.
    fn parse(text: &str) -> Result<Self, String>;

    /// The value as `downbeat config` shows it, with secrets masked.
    fn json(&self) -> Json;

    /// An invalid text as an error message repeats it, with secrets masked.
    fn echo(text: &str) -> String {
        format!("{text:?}")
    }
}

/// The whole value of a setting: one, an optional, or a list.
pub(crate) trait Value: Sized {
    const SHAPE: Shape;
    const CHOICES: &'static [&'static str];
    const HINT: ValueHint;

    /// Parses the given texts. The error repeats the invalid text and states the expected one.
    fn from_texts(texts: &[String]) -> Result<Self, String>;

    /// The value as `downbeat config` shows it, with secrets masked.
    fn json(&self) -> Json;
}

/// The text for an absent optional value or an empty list.
const NONE: &str = "none";

impl<T: Scalar> Value for T {
    const SHAPE: Shape = T::SHAPE;
    const CHOICES: &'static [&'static str] = T::CHOICES;
    const HINT: ValueHint = T::HINT;

    fn from_texts(texts: &[String]) -> Result<Self, String> {
        let [text] = texts else { return Err("it takes exactly one value".to_owned()) };
        read(text)
    }

    fn json(&self) -> Json {
        Scalar::json(self)
    }
}

impl<T: Scalar> Value for Option<T> {
    const SHAPE: Shape = Shape::One;
    const CHOICES: &'static [&'static str] = T::CHOICES;
    const HINT: ValueHint = T::HINT;

    fn from_texts(texts: &[String]) -> Result<Self, String> {
        match texts {
            [] => Ok(None),
            [text] if text == NONE => Ok(None),
            [text] => read(text).map(Some),
            _ => Err("it takes one value at most".to_owned()),
        }
    }

    fn json(&self) -> Json {
        self.as_ref().map_or(Json::Null, Scalar::json)
    }
}

impl<T: Scalar> Value for Vec<T> {
    const SHAPE: Shape = Shape::Many;
    const CHOICES: &'static [&'static str] = T::CHOICES;
    const HINT: ValueHint = T::HINT;

    fn from_texts(texts: &[String]) -> Result<Self, String> {
        if texts == [NONE] {
            return Ok(Vec::new());
        }
        texts.iter().map(|text| read(text)).collect()
    }

    fn json(&self) -> Json {
        Json::Array(self.iter().map(Scalar::json).collect())
    }
}

fn read<T: Scalar>(text: &str) -> Result<T, String> {
    T::parse(text).map_err(|expected| format!("{} is not valid: {expected}", T::echo(text)))
}

impl Scalar for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn json(&self) -> Json {
        self.clone().into()
    }
}

impl Scalar for CoValueId {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "write the id of an account, which starts with co_z".to_owned())
    }

    fn json(&self) -> Json {
        self.to_string().into()
    }
}

impl Scalar for Network {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            "write an address or a network, like 127.0.0.1, 10.0.0.0/8 or 2001:db8::/32".to_owned()
        })
    }

    fn json(&self) -> Json {
        self.to_string().into()
    }
}

impl Scalar for u16 {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "write a port from 0 to 65535, like 4200".to_owned())
    }

    fn json(&self) -> Json {
        (*self).into()
    }
}

impl Scalar for bool {
    const SHAPE: Shape = Shape::Switch;
    const CHOICES: &'static [&'static str] = &["true", "false"];

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("write true or false".to_owned()),
        }
    }

    fn json(&self) -> Json {
        (*self).into()
    }
}

/// A count of at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count(pub NonZeroU64);

impl Count {
    /// The number, for bounds of what is in memory.
    pub(crate) fn as_usize(self) -> usize {
        usize::try_from(self.0.get()).unwrap_or(usize::MAX)
    }
}

impl Scalar for Count {
    fn parse(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|c| *c != '_').collect();
        digits
            .parse()
            .map(Self)
            .map_err(|_| "write a whole number of at least 1, like 1000".to_owned())
    }

    fn json(&self) -> Json {
        self.0.get().into()
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub u64);

impl Size {
    /// The number, for bounds of what is in memory.
    pub(crate) fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Scalar for Size {
    fn parse(text: &str) -> Result<Self, String> {
        match parse_size(text) {
            Some(0) | None => Err("write a size, like 512MiB or 2GB".to_owned()),
            Some(bytes) => Ok(Self(bytes)),
        }
    }

    fn json(&self) -> Json {
        show_size(self.0).into()
    }
}

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub Duration);

impl Scalar for Time {
    fn parse(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Self).ok_or_else(|| "write a time, like 20s or 2m".to_owned())
    }

    fn json(&self) -> Json {
        show_duration(self.0).into()
    }
}

impl Scalar for PathBuf {
    const HINT: ValueHint = ValueHint::AnyPath;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("write a path".to_owned()) } else { Ok(text.into()) }
    }

    fn json(&self) -> Json {
        self.display().to_string().into()
    }
}

impl Scalar for StorageChoice {
    const HINT: ValueHint = ValueHint::Other;

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn json(&self) -> Json {
        self.to_string().into()
    }
}

/// Defines an enumeration whose values are chosen by name.
macro_rules! choice {
    ($type:ty, $expected:literal, $($name:literal => $variant:path),+ $(,)?) => {
        impl Scalar for $type {
            const CHOICES: &'static [&'static str] = &[$($name),+];

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok($variant),)+
                    _ => Err($expected.to_owned()),
                }
            }

            fn json(&self) -> Json {
                match self {
                    $($variant => $name.into(),)+
                }
            }
        }
    };
}

choice!(StorageFormat, "write reference or native",
    "reference" => StorageFormat::Reference,
    "native" => StorageFormat::Native,
);

choice!(DurabilityChoice, "write safe or relaxed",
    "safe" => DurabilityChoice::Safe,
    "relaxed" => DurabilityChoice::Relaxed,
);

/// The access mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessMode {
    /// Every client may use the server.
    Open,
    /// Only clients with a key from the key file.
    Keys,
    /// Every client may connect, but only content of listed accounts is stored.
    Accounts,
}

choice!(AccessMode, "write open, keys or accounts",
    "open" => AccessMode::Open,
    "keys" => AccessMode::Keys,
    "accounts" => AccessMode::Accounts,
);

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

choice!(LogFormat, "write text or json",
    "text" => LogFormat::Text,
    "json" => LogFormat::Json,
);

choice!(ForwardedHeader, "write x-forwarded-for or forwarded",
    "x-forwarded-for" => ForwardedHeader::XForwardedFor,
    "forwarded" => ForwardedHeader::Forwarded,
);

/// The filter of log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFilter(pub String);

impl Scalar for LogFilter {
    fn parse(text: &str) -> Result<Self, String> {
        match tracing_subscriber::EnvFilter::builder().parse(text) {
            Ok(_) if !text.is_empty() => Ok(Self(text.to_owned())),
            _ => {
                Err("write a level, like info, or directives, like info,downbeat_node=debug"
                    .to_owned())
            }
        }
    }

    fn json(&self) -> Json {
        self.0.clone().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one<T: Value>(text: &str) -> Result<T, String> {
        T::from_texts(&[text.to_owned()])
    }

    #[test]
    fn an_error_repeats_the_text_and_states_the_expected_one() {
        let error = one::<u16>("http").unwrap_err();
        assert_eq!(error, "\"http\" is not valid: write a port from 0 to 65535, like 4200");
    }

    #[test]
    fn none_is_an_absent_optional_value() {
        assert_eq!(one::<Option<Size>>("none"), Ok(None));
        assert_eq!(one::<Option<Size>>("1KiB"), Ok(Some(Size(1024))));
        assert_eq!(one::<Vec<Site>>("none"), Ok(Vec::new()));
        assert!(one::<Size>("none").is_err());
    }
}
