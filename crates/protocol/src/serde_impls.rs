//! `serde` for ids, keys and known states, so that programs can have them in formats of their own.
//!
//! Identifiers are their texts in every format. Keys and hashes are their texts in formats for
//! people (JSON, TOML), and their bytes in others. Counts are a map from session id to count.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::{AgentId, CoValueId, Owner, SessionId};
use crate::key::{LongHash, SealerId, ShortHash, Signature, SignerId};
use crate::known_state::SessionCounts;

macro_rules! as_text {
    ($($type:ident)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(TextVisitor(PhantomData))
            }
        }
    )*};
}
as_text!(CoValueId AgentId SessionId Owner Signature);

macro_rules! as_text_or_bytes {
    ($($type:ident)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.as_bytes().serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    deserializer.deserialize_str(TextVisitor(PhantomData))
                } else {
                    Deserialize::deserialize(deserializer).map(Self::from_bytes)
                }
            }
        }
    )*};
}
as_text_or_bytes!(SignerId SealerId LongHash ShortHash);

struct TextVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

impl Serialize for SessionCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(session, count)| (session, count)))
    }
}

impl<'de> Deserialize<'de> for SessionCounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountsVisitor;

        impl<'de> Visitor<'de> for CountsVisitor {
            type Value = SessionCounts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from session ids to counts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SessionCounts, A::Error> {
                let mut counts = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    counts.push(entry);
                }
                Ok(counts.into_iter().collect())
            }
        }

        deserializer.deserialize_map(CountsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KnownState;

    fn state() -> KnownState {
        let session = SessionId::parse("co_z1_session_z1").unwrap();
        KnownState {
            id: CoValueId::parse("co_z1").unwrap(),
            header: true,
            sessions: [(session, 3)].into_iter().collect(),
        }
    }

    #[test]
    fn a_known_state_is_in_json_what_it_is_on_the_wire() {
        let json = r#"{"id":"co_z1","header":true,"sessions":{"co_z1_session_z1":3}}"#;
        assert_eq!(serde_json::to_string(&state()).unwrap(), json);
        assert_eq!(serde_json::from_str::<KnownState>(json).unwrap(), state());
    }

    #[test]
    fn a_known_state_passes_through_bincode() {
        let config = bincode::config::standard();
        let bytes = bincode::serde::encode_to_vec(state(), config).unwrap();
        let (decoded, len): (KnownState, _) =
            bincode::serde::decode_from_slice(&bytes, config).unwrap();
        assert_eq!((decoded, len), (state(), bytes.len()));
    }

    #[test]
    fn keys_are_text_for_people_and_bytes_for_machines() {
        let key = SignerId::from_bytes([7; 32]);
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, format!("\"{key}\""));
        assert_eq!(serde_json::from_str::<SignerId>(&json).unwrap(), key);
        let bytes = bincode::serde::encode_to_vec(key, bincode::config::standard()).unwrap();
        assert_eq!(bytes, [7; 32]);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        assert!(serde_json::from_str::<CoValueId>("\"co_y1\"").is_err());
        assert!(serde_json::from_str::<SessionCounts>(r#"{"co_z1_session_z1":-1}"#).is_err());
    }
}
