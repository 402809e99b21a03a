//! Vectors recorded from the reference, by `protocol-vectors.mjs` of the differential test.

use downbeat_protocol::{Header, Limits, Message, Transaction, json};
use serde::Deserialize;
use serde_json::Value;

fn load<T: for<'de> Deserialize<'de>>(vectors: &str) -> Vec<T> {
    let vectors: Vec<T> = serde_json::from_str(vectors).unwrap();
    assert!(!vectors.is_empty());
    vectors
}

#[test]
fn canonical_json_is_what_the_reference_prints() {
    for (input, expected) in load::<(String, String)>(include_str!("../vectors/canonical.json")) {
        let canonical = json::canonicalize(&input.clone().into(), &Limits::default());
        assert_eq!(canonical.as_deref(), Ok(expected.as_bytes()), "{input}");
    }
}

#[derive(Deserialize)]
struct HeaderCase {
    header: String,
    /// The native core's result, if it accepts the text.
    canonical: Option<String>,
}

#[test]
fn headers_are_taken_and_written_as_by_the_native_core() {
    for case in load::<HeaderCase>(include_str!("../vectors/headers.json")) {
        let HeaderCase { header: json, mut canonical } = case;
        let members: Value = serde_json::from_str(&json).unwrap_or_default();
        if members["ruleset"].is_array() {
            // The native core accepts an array as an object, which no client uses.
            canonical = None;
        }
        let header = Header::parse(&json.clone().into(), &Limits::default());
        if members.is_object() && members.get("uniqueness").is_none() {
            // The protocol allows this form, but the current native core refuses it.
            assert!(header.is_ok(), "{json}");
            continue;
        }
        let written = header.ok().map(|header| header.hashed_json().clone());
        assert_eq!(written.as_deref(), canonical.as_deref().map(str::as_bytes), "{json}");
    }
}

#[derive(Deserialize)]
struct TransactionCase {
    transaction: String,
    /// The native core's result, if it accepts the text.
    canonical: Option<String>,
}

#[test]
fn transactions_are_taken_and_written_as_by_the_native_core() {
    for case in load::<TransactionCase>(include_str!("../vectors/transactions.json")) {
        let TransactionCase { transaction: json, canonical } = case;
        let transaction = Transaction::parse(&json.clone().into(), &Limits::default());
        let written = transaction.ok().map(|transaction| transaction.json().clone());
        assert_eq!(written.as_deref(), canonical.as_deref().map(str::as_bytes), "{json}");
    }
}

#[test]
fn messages_of_a_client_are_read_and_written_without_loss() {
    let frames: Vec<String> = load(include_str!("../vectors/messages.json"));
    let mut contents = 0;
    for line in &frames {
        let frame = json::decode_frame(&line.clone().into(), &Limits::default()).unwrap();
        assert_eq!(frame.rejected, []);
        let [message] = &frame.messages[..] else { panic!("{frame:?}") };
        if let Message::Content(content) = message {
            contents += 1;
            assert_eq!(content.malformed, []);
            assert!(content.header.is_some());
        }
        let mut written = Vec::new();
        json::encode_message(message, &mut written);
        assert_eq!(
            serde_json::from_slice::<Value>(&written).unwrap(),
            serde_json::from_str::<Value>(line).unwrap()
        );
    }
    assert!(contents > 2);
}

#[test]
fn a_batch_is_its_messages_one_after_another() {
    let frames: Vec<String> = load(include_str!("../vectors/messages.json"));
    let single: Vec<Message> = frames
        .iter()
        .flat_map(|line| {
            json::decode_frame(&line.clone().into(), &Limits::default()).unwrap().messages
        })
        .collect();
    let batch = json::decode_frame(&frames.join("\n").into(), &Limits::default()).unwrap();
    assert_eq!(batch.messages, single);
    assert!(batch.batched);
}
