//! Keys, and the hashes by which they are known.

use std::fmt;

use anyhow::Context;
use serde_json::Value as Json;

use crate::config::Scalar;

/// With what our own keys begin, so that people and tools that look for leaked secrets recognise
/// them.
const PREFIX: &str = "dbk_";
/// Random bytes of a key of ours: nobody guesses 256 bits.
const RANDOM_BYTES: usize = 32;
/// The shortest key that somebody may choose, in characters. Its hash is a fast one, so that whoever
/// has the file may try thousands of millions in a second: only what a machine has drawn is safe,
/// and 24 characters of base64 are 144 bits.
const MIN_CHARS: usize = 24;
/// The fewest different characters in a chosen key: fewer are no random ones.
const MIN_DISTINCT: usize = 10;

/// The BLAKE3 hash of a key.
///
/// A slow hash protects what people choose and remember. Keys are drawn by machines, so a slow hash
/// would protect nothing, and cost every handshake, those of strangers too, a tenth of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash(blake3::Hash);

impl KeyHash {
    /// The hash of a key.
    pub(crate) fn of(key: &str) -> Self {
        Self(blake3::hash(key.as_bytes()))
    }

    /// Whether the hashes are the same, in a time that does not tell how alike they are: `==` of
    /// the library promises that.
    pub(crate) fn matches(self, other: Self) -> bool {
        self.0 == other.0
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", self.0.to_hex())
    }
}

impl Scalar for KeyHash {
    fn parse(text: &str) -> Result<Self, String> {
        let hex = text.strip_prefix("blake3:").and_then(|hex| blake3::Hash::from_hex(hex).ok());
        hex.map(Self).ok_or_else(|| {
            "write the line that `downbeat key add` made, \"blake3:\" and 64 hexadecimal digits"
                .to_owned()
        })
    }

    fn json(&self) -> Json {
        self.to_string().into()
    }
}

/// A new key.
pub(crate) fn generate() -> anyhow::Result<String> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).context("the operating system gave no randomness")?;
    Ok(format!("{PREFIX}{}", bs58::encode(bytes).into_string()))
}

/// Whether a key that somebody has chosen will do.
pub(crate) fn check_chosen(key: &str) -> anyhow::Result<()> {
    let mut distinct: Vec<char> = key.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if key.chars().any(|c| c.is_whitespace() || c.is_control()) {
        anyhow::bail!("a key must not hold spaces or control characters");
    }
    if key.chars().count() < MIN_CHARS || distinct.len() < MIN_DISTINCT {
        anyhow::bail!(
            "this key could be guessed: a key needs {MIN_CHARS} random characters, like those of \
             `openssl rand -base64 32`; without --stdin one is made for you"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_different_and_fit_into_a_url() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        assert_ne!(one, other);
        assert!(one.len() > 40 && one.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
        check_chosen(&one).unwrap();
    }

    #[test]
    fn a_hash_is_written_and_read() {
        let hash = KeyHash::of("key");
        assert_eq!(KeyHash::parse(&hash.to_string()), Ok(hash));
        assert!(hash.matches(KeyHash::of("key")) && !hash.matches(KeyHash::of("Key")));
        for bad in ["", "blake3:", "blake3:00", "sha256:00"] {
            assert!(KeyHash::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_people_choose_is_mostly_refused() {
        for bad in [
            "secret",
            "you@example.com",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "a b c d e f g h i j k l m",
        ] {
            assert!(check_chosen(bad).is_err(), "{bad}");
        }
    }
}
