//! Recorded content: it verifies, has the facts of the reference, and is sent as it was received.

use std::collections::BTreeSet;

use bytes::Bytes;
use downbeat_core::{CoValue, dependencies};
use downbeat_crypto::sessions_hash;
use downbeat_protocol::{
    CoValueId, Content, KnownState, Limits, Message, SessionContent, SessionCounts, json,
};
use serde_json::Value;

use crate::given::{id, session};
use crate::vectors::{self, Loaded, NAMES};

fn counts(json: &Value) -> SessionCounts {
    let entries = json.as_object().unwrap().iter();
    entries.map(|(id, count)| (session(id), count.as_u64().unwrap())).collect()
}

/// The recorded CoValues with the facts about each.
fn recorded() -> Vec<(CoValue, Value)> {
    let facts = vectors::facts();
    let values = Loaded::all().0.into_iter();
    values.zip(facts["values"].as_array().unwrap().clone()).collect()
}

#[test]
fn all_of_it_verifies_and_has_the_references_known_state() {
    for (value, facts) in recorded() {
        assert_eq!(value.id().as_str(), facts["id"], "{}", facts["name"]);
        let known = value.known_state();
        assert_eq!(known.sessions, counts(&facts["sessions"]), "{}", facts["name"]);
        assert_eq!(sessions_hash(&known.sessions).to_string(), facts["sessionsHash"]);
        assert_eq!(value.is_deleted(), facts["name"] == "deleted");
    }
}

#[test]
fn it_is_sent_on_in_the_same_pieces() {
    for (name, value) in NAMES.into_iter().zip(Loaded::all().0) {
        assert_eq!(value.content_since(None), vectors::messages(name), "{name}");
    }
}

#[test]
fn every_transaction_keeps_its_bytes() {
    for name in NAMES {
        let file = vectors::file(&format!("{name}.jsonl"));
        let file = str::from_utf8(&file).unwrap();
        for transaction in vectors::messages(name)
            .iter()
            .flat_map(|message| &message.sessions)
            .flat_map(|run| &run.transactions)
        {
            let bytes = str::from_utf8(transaction.json()).unwrap();
            assert!(file.contains(bytes), "{name}: {bytes}");
        }
    }
}

#[test]
fn encoded_and_decoded_it_is_the_same() {
    for name in NAMES {
        for message in vectors::messages(name) {
            let message = Message::Content(message);
            let mut encoded = Vec::new();
            json::encode_message(&message, &mut encoded);
            let frame = json::decode_frame(&Bytes::from(encoded), &Limits::default()).unwrap();
            assert_eq!(frame.messages, [message], "{name}");
        }
    }
}

#[test]
fn someone_with_half_of_it_is_sent_what_the_reference_sends() {
    for (value, facts) in recorded() {
        let known =
            KnownState { id: value.id(), header: true, sessions: counts(&facts["since"]["known"]) };
        let pieces = value.content_since(Some(&known));
        let theirs = facts["since"]["pieces"].as_array().unwrap();
        assert_eq!(pieces.len(), theirs.len(), "{}", facts["name"]);
        for (piece, theirs) in pieces.iter().zip(theirs) {
            let runs: Vec<_> = piece.sessions.iter().map(described).collect();
            assert_eq!(Value::from(runs), theirs["runs"], "{}", facts["name"]);
            let expected = &theirs["expectContentUntil"];
            let expected = (!expected.is_null()).then(|| counts(expected));
            assert_eq!(piece.expect_content_until, expected, "{}", facts["name"]);
        }
    }
}

fn described(run: &SessionContent) -> Value {
    Value::from(vec![
        Value::from(run.session.as_str()),
        Value::from(run.after),
        Value::from(run.transactions.len()),
        Value::from(run.last_signature.as_str()),
    ])
}

#[test]
fn a_long_stream_is_cut_at_its_checkpoints() {
    let pieces = vectors::messages("binary");
    let ends: Vec<_> = pieces.iter().map(|piece| piece.sessions[0].end()).collect();
    assert_eq!(ends, [4, 7, 9], "a start, three chunks to a checkpoint, and an end");
    assert!(pieces[0].expect_content_until.is_some());
    assert!(pieces[1..].iter().all(|piece| piece.expect_content_until.is_none()));
}

#[test]
fn its_dependencies_are_the_references() {
    for (name, (value, facts)) in NAMES.into_iter().zip(recorded()) {
        let ours: BTreeSet<CoValueId> = vectors::messages(name)
            .iter()
            .flat_map(|message| dependencies::of_content(value.id(), value.header(), message))
            .collect();
        let theirs = facts["dependencies"].as_array().unwrap();
        let theirs = theirs.iter().map(|dependency| id(dependency.as_str().unwrap())).collect();
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn one_changed_byte_anywhere_in_a_transaction_is_noticed() {
    let mut loaded = Loaded::default();
    for name in ["account", "account-of-bob", "group-parent", "group"] {
        loaded.load(name);
    }
    let message = vectors::messages("comap").remove(0);
    let json = String::from_utf8(vectors::file("comap.jsonl").to_vec()).unwrap();
    for run in &message.sessions {
        for transaction in &run.transactions {
            let bytes = str::from_utf8(transaction.json()).unwrap();
            let changed = bytes.replacen("madeAt\":1", "madeAt\":2", 1);
            let forged = decode(&json.replacen(bytes, &changed, 1));
            let (_, ingested) = CoValue::from_content(&forged, &loaded).unwrap();
            let refused: Vec<_> = ingested.refused().map(|(session, _)| session).collect();
            assert_eq!(refused, [&run.session], "that session and no other");
        }
    }
}

fn decode(json: &str) -> Content {
    let frame = json::decode_frame(&json.trim_end().to_owned().into(), &Limits::default()).unwrap();
    match <[Message; 1]>::try_from(frame.messages) {
        Ok([Message::Content(content)]) => content,
        other => panic!("{other:?}"),
    }
}
