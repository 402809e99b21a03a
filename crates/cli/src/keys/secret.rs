//! Keys and their hashes.

use std::fmt;

use anyhow::Context;
use serde_json::Value as Json;

use crate::config::Scalar;

/// The prefix of generated keys, by which people and secret scanners recognise them.
const PREFIX: &str = "dbk_";
/// Random bytes in a generated key. 256 bits cannot be guessed.
const RANDOM_BYTES: usize = 32;
/// The minimum length of a chosen key, in characters. The hash is fast, so an attacker with the
/// file can try billions of keys per second. Only random keys are safe; 24 characters of base64 are
/// 144 bits.
const MIN_CHARS: usize = 24;
/// The minimum of different characters in a chosen key. A random key has more.
const MIN_DISTINCT: usize = 10;

/// The BLAKE3 hash of a key.
///
/// A slow hash protects passwords that people choose. Keys are random, so a slow hash would not
/// help, and would cost 0.1 s in each handshake, even for strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash(blake3::Hash);

impl KeyHash {
    /// The hash of a key.
    pub(crate) fn of(key: &str) -> Self {
        Self(blake3::hash(key.as_bytes()))
    }

    /// Whether the hashes are equal, in constant time: `==` of the library guarantees it.
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
            "write the hash that `downbeat key add` created: \"blake3:\" and 64 hexadecimal digits"
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
    getrandom::fill(&mut bytes).context("the operating system provides no random numbers")?;
    Ok(format!("{PREFIX}{}", bs58::encode(bytes).into_string()))
}

/// Checks a chosen key.
pub(crate) fn check_chosen(key: &str) -> anyhow::Result<()> {
    let mut distinct: Vec<char> = key.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if key.chars().any(|c| c.is_whitespace() || c.is_control()) {
        anyhow::bail!("a key must not contain spaces or control characters");
    }
    if key.chars().count() < MIN_CHARS || distinct.len() < MIN_DISTINCT {
        anyhow::bail!(
            "this key is easy to guess: use at least {MIN_CHARS} random characters, for example from \
             `openssl rand -base64 32`, or leave out --stdin to create a key"
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
    fn weak_keys_are_refused() {
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
