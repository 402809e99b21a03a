//! Messages about texts that cannot name a CoValue.

use bytes::Bytes;
use downbeat_protocol::{
    BinaryCodec, Codec, DecodeError, JsonCodec, Message, Unknown, UnknownId, UnknownKind,
};

const LOAD: &str = r#","header":false,"sessions":{}}"#;

fn decode(frame: &str) -> downbeat_protocol::Frame {
    JsonCodec::default().decode(&Bytes::copy_from_slice(frame.as_bytes())).unwrap()
}

fn only(frame: &str) -> Message {
    let decoded = decode(frame);
    assert_eq!(decoded.rejected, []);
    let [message] = &decoded.messages[..] else { panic!("{frame}: {decoded:?}") };
    message.clone()
}

fn answer(frame: &str) -> Option<String> {
    let Message::Unknown(unknown) = only(frame) else { panic!("{frame}") };
    let mut out = Vec::new();
    JsonCodec::default().encode(&Message::Unknown(unknown.answer()?), &mut out);
    Some(String::from_utf8(out).unwrap())
}

#[test]
fn a_load_of_what_is_no_id_is_answered_with_the_same_text() {
    let long = "x".repeat(1_024);
    for id in [
        "",
        "co_z",
        "co_zNot0OIl",
        "co_z3KtTqHpdiLVqUedLN8UzsfaYrxAndMore",
        "https://ü",
        "a\\\"b",
        &long,
    ] {
        assert_eq!(
            answer(&format!(r#"{{"action":"load","id":"{id}"{LOAD}"#)),
            Some(format!(r#"{{"action":"known","id":"{id}","header":false,"sessions":{{}}}}"#))
        );
    }
    // Whatever known state the peer claims.
    let load = r#"{"action":"load","id":"no","header":true,"sessions":{"co_z1_session_z1":3}}"#;
    assert!(answer(load).is_some());
}

#[test]
fn content_without_a_header_is_corrected_and_known_is_not_answered() {
    assert_eq!(
        answer(r#"{"action":"content","id":"no","priority":3,"new":{}}"#).unwrap(),
        r#"{"action":"known","isCorrection":true,"id":"no","header":false,"sessions":{}}"#
    );
    assert_eq!(answer(r#"{"action":"known","id":"no","header":false,"sessions":{}}"#), None);
    // No header has such an id.
    let with_header = r#"{"action":"content","id":"no","header":{"type":"x"},"new":{}}"#;
    assert!(matches!(decode(with_header).rejected[..], [DecodeError::Id(_)]));
}

#[test]
fn a_text_that_is_too_long_is_rejected_alone() {
    let id = "x".repeat(1_025);
    let done = r#"{"action":"done","id":"co_z1"}"#;
    let decoded = decode(&format!("{{\"action\":\"load\",\"id\":\"{id}\"{LOAD}\n{done}"));
    assert_eq!((decoded.messages.len(), decoded.rejected.len()), (1, 1));
}

#[test]
fn the_rest_of_a_frame_is_decoded() {
    let done = r#"{"action":"done","id":"co_z1"}"#;
    let decoded = decode(&format!("{{\"action\":\"load\",\"id\":\"no\"{LOAD}\n{done}"));
    assert_eq!(decoded.messages.len(), 2);
}

#[test]
fn what_nobody_can_have_is_left_out_of_batches_and_known_states() {
    let hash = downbeat_protocol::ShortHash::from_bytes([1; 19]);
    let batch = format!(
        r#"{{"action":"reconcile","id":"x","values":[["no","{hash}"],["co_z1","{hash}"]]}}"#
    );
    let Message::Reconcile(batch) = only(&batch) else { panic!("no batch") };
    assert_eq!(batch.values.len(), 1);
    let load =
        r#"{"action":"load","id":"co_z1","header":true,"sessions":{"no":2,"co_z1_session_z1":3}}"#;
    let Message::Load(state) = only(load) else { panic!("no load") };
    assert_eq!(state.sessions.len(), 1);
}

#[test]
fn an_unknown_id_is_none_of_a_co_value_and_passes_through_both_codecs() {
    assert_eq!(UnknownId::new("co_z1"), None);
    for kind in [
        UnknownKind::Load,
        UnknownKind::Known { is_correction: false },
        UnknownKind::Known { is_correction: true },
        UnknownKind::Content,
    ] {
        let message = Message::Unknown(Unknown { id: UnknownId::new("\"no\n").unwrap(), kind });
        for codec in [&JsonCodec::default() as &dyn Codec, &BinaryCodec::default()] {
            let mut frame = Vec::new();
            codec.encode(&message, &mut frame);
            assert_eq!(
                codec.decode(&frame.into()).unwrap().messages,
                std::slice::from_ref(&message)
            );
        }
    }
}
