//! `serde` for the types of the protocol, so that programs can store and send them in other
//! formats.
//!
//! Identifiers are strings in every format. Keys and hashes are strings in human-readable formats
//! (JSON, TOML) and bytes in binary ones. Counts are a map from session id to count. Headers,
//! transactions and messages have the structure of their JSON in human-readable formats. In binary
//! formats they are byte strings: the canonical JSON of headers and transactions, the binary frame
//! of a message.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use bytes::Bytes;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::binary;
use crate::error::DecodeError;
use crate::header::Header;
use crate::id::{AgentId, CoValueId, Owner, SessionId};
use crate::json;
use crate::json::transcode::{self, JsonText};
use crate::key::{LongHash, SealerId, ShortHash, Signature, SignerId};
use crate::known_state::SessionCounts;
use crate::limits::Limits;
use crate::message::Message;
use crate::transaction::Transaction;

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
        serializer.collect_map(self)
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
                let mut counts: Vec<(SessionId, u64)> = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    counts.push(entry);
                }
                Ok(counts.into_iter().collect())
            }
        }

        deserializer.deserialize_map(CountsVisitor)
    }
}

macro_rules! as_json_or_bytes {
    ($($type:ident)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize_json(self.json(), serializer)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // The format has limits of its own.
                let parse = |json: &Bytes| Self::parse(json, &Limits::unlimited());
                deserialize_json(deserializer, parse, parse)
            }
        }
    )*};
}
as_json_or_bytes!(Header Transaction);

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        if serializer.is_human_readable() {
            json::encode_message(self, &mut bytes);
        } else {
            binary::encode_message(self, &mut bytes);
        }
        serialize_json(&bytes, serializer)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limits = Limits::unlimited();
        deserialize_json(
            deserializer,
            |text| json::decode_frame(text, &limits)?.into_message(),
            |bytes| binary::decode_frame(bytes, &limits)?.into_message(),
        )
    }
}

/// Serializes a JSON text as its value, or other bytes as they are.
fn serialize_json<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        let json = str::from_utf8(bytes).map_err(serde::ser::Error::custom)?;
        JsonText(json).serialize(serializer)
    } else {
        serializer.serialize_bytes(bytes)
    }
}

/// Reads what [`serialize_json`] writes.
fn deserialize_json<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    from_json: impl FnOnce(&Bytes) -> Result<T, DecodeError>,
    from_bytes: impl FnOnce(&Bytes) -> Result<T, DecodeError>,
) -> Result<T, D::Error> {
    let result = if deserializer.is_human_readable() {
        from_json(&transcode::deserialize(deserializer)?.into())
    } else {
        from_bytes(&deserializer.deserialize_byte_buf(BytesVisitor)?.into())
    };
    result.map_err(D::Error::custom)
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
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

    const HEADER: &str = r#"{"createdAt":null,"meta":{"a":[1,-2,0.5,true,null,{"b":"\u0001é"}]},"ruleset":{"group":"co_z1","type":"ownedByGroup"},"type":"comap","uniqueness":{"a":"b"}}"#;
    const TRANSACTION: &str =
        r#"{"changes":"[\"a\"]","madeAt":1700000000000,"meta":"{}","privacy":"trusting"}"#;

    /// The value has this JSON, and passes through JSON texts, JSON values and bincode.
    fn check<T: Serialize + serde::de::DeserializeOwned + PartialEq + fmt::Debug>(
        value: &T,
        json: &str,
    ) {
        assert_eq!(serde_json::to_string(value).unwrap(), json);
        assert_eq!(&serde_json::from_str::<T>(json).unwrap(), value);
        let tree = serde_json::to_value(value).unwrap();
        assert_eq!(&serde_json::from_value::<T>(tree).unwrap(), value);
        let config = bincode::config::standard();
        let bytes = bincode::serde::encode_to_vec(value, config).unwrap();
        let (decoded, len): (T, _) = bincode::serde::decode_from_slice(&bytes, config).unwrap();
        assert_eq!((&decoded, len), (value, bytes.len()));
    }

    #[test]
    fn headers_and_transactions_are_in_json_what_they_are_on_the_wire() {
        let limits = Limits::default();
        check(&Header::parse(&HEADER.into(), &limits).unwrap(), HEADER);
        check(&Transaction::parse(&TRANSACTION.into(), &limits).unwrap(), TRANSACTION);
    }

    #[test]
    fn messages_are_in_json_what_they_are_on_the_wire() {
        let content = format!(
            r#"{{"action":"content","id":"co_z1","header":{HEADER},"priority":3,"new":{{"co_z1_session_z1":{{"after":0,"newTransactions":[{TRANSACTION}],"lastSignature":"signature_z1"}}}}}}"#
        );
        for json in [
            content.as_str(),
            r#"{"action":"load","id":"co_z1","header":true,"sessions":{"co_z1_session_z1":3}}"#,
            r#"{"action":"known","isCorrection":true,"id":"x y","header":false,"sessions":{}}"#,
            r#"{"action":"done","id":"co_z1"}"#,
            r#"{"action":"reconcile","id":"r","values":[]}"#,
        ] {
            let limits = Limits::default();
            let frame = json::decode_frame(&Bytes::copy_from_slice(json.as_bytes()), &limits);
            check(&frame.unwrap().into_message().unwrap(), json);
        }
    }

    #[test]
    fn wrong_members_are_errors() {
        let message = serde_json::from_str::<Message>;
        assert!(
            message(r#"{"action":"x","id":"co_z1"}"#).is_err_and(|e| e.to_string().contains("`x`"))
        );
        assert!(message(r#"{"type":"ping","time":1}"#).is_err());
        assert!(message("1").is_err());
        assert!(serde_json::from_str::<Header>(&HEADER.replace("group", "grasp")).is_err());
        assert!(serde_json::from_str::<Transaction>(r#"{"changes":"[]"}"#).is_err());
        let deep = format!(r#"{{"meta":{}1{}}}"#, "[".repeat(127), "]".repeat(127));
        assert!(serde_json::from_str::<Header>(&deep).is_err());
    }

    #[test]
    fn what_is_no_id_is_refused() {
        assert!(serde_json::from_str::<CoValueId>("\"co_y1\"").is_err());
        assert!(serde_json::from_str::<SessionCounts>(r#"{"co_z1_session_z1":-1}"#).is_err());
    }
}
