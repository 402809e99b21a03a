//! The key file: TOML with a `[[key]]` table for each key.

use std::path::Path;

use downbeat_node::KeyLimits;
use serde_json::Value as Json;
use toml_edit::{Document, Item};

use super::secret::KeyHash;
use crate::config::{Count, Fields, FileLine, Problems, Scalar, Size, byte_rate, rate};

/// The maximum of keys in a file. Each handshake compares with all keys, which takes 0.1 ms for
/// this number.
const MAX_KEYS: usize = 10_000;
/// The maximum length of a name, in characters. Each log line of a connection contains it.
const MAX_NAME: usize = 64;

/// The keys of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct KeyFile {
    pub entries: Vec<KeyEntry>,
}

/// One key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeyEntry {
    pub name: KeyName,
    pub hash: KeyHash,
    /// The time of its creation, as written in the file.
    pub created: Option<String>,
    pub max_connections: Option<Count>,
    pub messages_per_second: Option<Count>,
    pub bytes_per_second: Option<Size>,
    pub max_stored: Option<Size>,
}

/// The name of a key in log lines, metrics and commands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct KeyName(pub String);

impl Scalar for KeyName {
    fn parse(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if text.is_empty() || text.len() > MAX_NAME || !text.chars().all(allowed) {
            return Err(format!(
                "write a name of up to {MAX_NAME} letters, digits, `-`, `_`, `.` and `@`"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    fn json(&self) -> Json {
        self.0.clone().into()
    }
}

impl std::str::FromStr for KeyName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl KeyFile {
    /// Reads a key file.
    pub(crate) fn read(path: &Path) -> Result<Self, Problems> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let first = "; `downbeat key add NAME --keys FILE` creates one";
            let hint = if error.kind() == std::io::ErrorKind::NotFound { first } else { "" };
            Problems::one(path.display(), format_args!("cannot read the key file: {error}{hint}"))
        })?;
        Self::parse(path, &text)
    }

    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let document = match Document::parse(text) {
            Ok(document) => document,
            Err(error) => {
                problems.syntax(path, text, &error);
                return Err(problems);
            }
        };
        let mut file = Self::default();
        for (name, item) in document.as_table() {
            let ("key", Item::ArrayOfTables(tables)) = (name, item) else {
                let key = document.as_table().key(name).and_then(toml_edit::Key::span);
                let byte = key.or_else(|| item.span()).map_or(0, |span| span.start);
                let place = FileLine::of(path, text, byte);
                let hint = "a key starts with the line [[key]]";
                problems.add(place, format_args!("`{name}` is unknown here: {hint}"));
                continue;
            };
            for table in tables {
                let fields = Fields::new(path, text, table, &mut problems);
                file.take(fields);
            }
        }
        if file.entries.len() > MAX_KEYS {
            problems.add(path.display(), format_args!("more than {MAX_KEYS} keys"));
        }
        problems.or(file)
    }

    fn take(&mut self, mut fields: Fields<'_>) {
        let name: Option<KeyName> = fields.require("name", "name = \"my-app\"");
        let hash: Option<KeyHash> = fields.require("hash", "hash = \"blake3:...\"");
        let created = fields.get("created");
        let max_connections = fields.get("max-connections");
        let messages_per_second = fields.get("messages-per-second");
        let bytes_per_second = fields.get("bytes-per-second");
        let max_stored = fields.get("max-stored");
        if let (Some(name), Some(hash)) = (name, hash) {
            if self.entries.iter().any(|other| other.name == name) {
                fields.wrong("name", "another key has this name");
            }
            if self.entries.iter().any(|other| other.hash == hash) {
                fields.wrong("hash", "another entry has this key");
            }
            self.entries.push(KeyEntry {
                name,
                hash,
                created,
                max_connections,
                messages_per_second,
                bytes_per_second,
                max_stored,
            });
        }
        fields.finish();
    }

    /// The entry of a key. Takes the same time for valid and invalid keys.
    pub(crate) fn find(&self, key: &str) -> Option<&KeyEntry> {
        let hash = KeyHash::of(key);
        self.entries.iter().fold(
            None,
            |found, entry| {
                if entry.hash.matches(hash) { Some(entry) } else { found }
            },
        )
    }
}

impl KeyEntry {
    /// The limits of this key. The common limits fill the gaps.
    pub(crate) fn limits(&self, common: KeyLimits) -> KeyLimits {
        let mut limits = common;
        if self.messages_per_second.is_some() {
            limits.rates.messages = rate(self.messages_per_second);
        }
        if self.bytes_per_second.is_some() {
            limits.rates.bytes = byte_rate(self.bytes_per_second);
        }
        if let Some(Size(bytes)) = self.max_stored {
            limits.stored_bytes = Some(bytes);
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<KeyFile, String> {
        KeyFile::parse(Path::new("keys.toml"), text).map_err(|problems| problems.to_string())
    }

    fn entry(name: &str, key: &str) -> String {
        format!("[[key]]\nname = \"{name}\"\nhash = \"{}\"\n", KeyHash::of(key))
    }

    #[test]
    fn a_key_is_found_by_what_it_hashes_to() {
        let file = parse(&(entry("a", "key a") + &entry("b", "key b"))).unwrap();
        assert_eq!(file.find("key b").map(|entry| entry.name.0.as_str()), Some("b"));
        assert_eq!(file.find("key c"), None);
    }

    #[test]
    fn limits_are_those_of_all_keys_unless_the_key_has_its_own() {
        let text = entry("a", "k") + "max-stored = \"1GiB\"\nmessages-per-second = 5\n";
        let file = parse(&text).unwrap();
        let mut common = KeyLimits::default();
        common.rates.bytes = std::num::NonZeroU64::new(7);
        let limits = file.entries[0].limits(common);
        assert_eq!(limits.stored_bytes, Some(1 << 30));
        assert_eq!(limits.rates.messages.map(std::num::NonZeroU64::get), Some(5));
        assert_eq!(limits.rates.bytes.map(std::num::NonZeroU64::get), Some(7));
    }

    #[test]
    fn a_problem_is_named_with_its_line() {
        let good = entry("a", "k");
        for (text, expected) in [
            ("[[key]]\nname = \"a\"\n".to_owned(), "keys.toml:1: `hash` is missing"),
            (
                format!("{good}max-store = 1\n"),
                "keys.toml:4: `max-store` is unknown here; did you mean max-stored?",
            ),
            (
                format!("{good}max-stored = \"lots\"\n"),
                "keys.toml:4: max-stored: \"lots\" is not valid: write a size",
            ),
            (
                format!("{good}\n{}", entry("a", "other")),
                "keys.toml:6: name: another key has this name",
            ),
            (
                format!("{good}\n{}", entry("b", "k")),
                "keys.toml:7: hash: another entry has this key",
            ),
            (
                "[key]\n".to_owned(),
                "keys.toml:1: `key` is unknown here: a key starts with the line [[key]]",
            ),
            ("[[key]\n".to_owned(), "keys.toml:1: this is not TOML"),
            (entry("a b", "k"), "keys.toml:2: name: \"a b\" is not valid: write a name"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(expected), "{text}\n{error}");
        }
    }
}
