//! The binary encoding, byte by byte.

use bytes::Bytes;
use downbeat_protocol::{
    CoValueId, DecodeError, Frame, KnownState, Limits, Message, SessionCounts, SessionId, binary,
};

fn decode(frame: &[u8]) -> Result<Frame, DecodeError> {
    binary::decode_frame(&Bytes::copy_from_slice(frame), &Limits::default())
}

fn encode(message: &Message) -> Vec<u8> {
    let mut frame = Vec::new();
    binary::encode_message(message, &mut frame);
    frame
}

#[test]
fn a_frame_is_a_version_and_messages_with_their_lengths() {
    let done = Message::Done("co_z12".parse().unwrap());
    let mut frame = encode(&done);
    assert_eq!(frame, b"\x01\x04\x03\x0212");
    binary::encode_message(&done, &mut frame);
    assert_eq!(frame, b"\x01\x04\x03\x0212\x04\x03\x0212");
    let decoded = decode(&frame).unwrap();
    assert_eq!(decoded.messages, [done.clone(), done]);
    assert!(decoded.batched);
}

#[test]
fn a_known_state_is_written_as_documented() {
    let agent = "sealer_z8m6gBhpziw9X3kyL6zAfrQZeJg1muNQ7HGb3ubfaacoy/signer_zCCNZwhNyJmGASCY1ZLAJsqqr7KPuS8RFUaA9hgZNJUGB";
    let sessions = [
        ("co_z1_session_zab".to_owned(), 300_u64),
        ("co_z1_session_dab$".to_owned(), 1),
        (format!("{agent}_session_z2"), 2),
    ];
    let state = downbeat_protocol::KnownState {
        id: "co_z1".parse().unwrap(),
        header: true,
        sessions: sessions.iter().map(|(id, count)| (id.parse().unwrap(), *count)).collect(),
    };
    let body = [
        &b"\x00\x011\x01\x03"[..],
        b"\x01\x011\x02ab\x01",
        b"\x00\x011\x02ab\xfb\x2c\x01",
        b"\x02",
        &[u8::try_from(agent.len()).unwrap()],
        agent.as_bytes(),
        b"\x012\x02",
    ]
    .concat();
    let frame = [&[1, u8::try_from(body.len()).unwrap()], &body[..]].concat();
    assert_eq!(encode(&Message::Load(state.clone())), frame);
    assert_eq!(decode(&frame).unwrap().messages, [Message::Load(state)]);
}

#[test]
fn transactions_are_slices_of_the_frame() {
    let transaction = r#"{"changes":"[]","madeAt":1,"privacy":"trusting"}"#;
    let json = format!(
        r#"{{"action":"content","id":"co_z1","new":{{"co_z1_session_z1":{{"after":0,"newTransactions":[{transaction}],"lastSignature":"signature_z1"}}}}}}"#
    );
    let limits = Limits::default();
    let message =
        downbeat_protocol::json::decode_frame(&json.into(), &limits).unwrap().messages.remove(0);
    let frame = Bytes::from(encode(&message));
    let decoded = binary::decode_frame(&frame, &limits).unwrap();
    let Message::Content(content) = &decoded.messages[0] else { panic!("{decoded:?}") };
    let json = content.sessions[0].transactions[0].json();
    assert!(frame.as_ptr_range().contains(&json.as_ptr()));
}

#[test]
fn counts_that_json_cannot_say_are_refused() {
    let session = SessionId::parse("co_z1_session_z1").unwrap();
    let known = |count| {
        let sessions = SessionCounts::from_iter([(session.clone(), count)]);
        Message::Load(KnownState { id: CoValueId::parse("co_z1").unwrap(), header: true, sessions })
    };
    let largest = known((1 << 53) - 1);
    assert_eq!(decode(&encode(&largest)).unwrap().messages, [largest]);
    let beyond = decode(&encode(&known(1 << 53))).unwrap();
    assert!(beyond.messages.is_empty());
    assert!(matches!(beyond.rejected[..], [DecodeError::Invalid { member: "sessions", .. }]));
}

#[test]
fn an_empty_frame_is_no_message() {
    assert_eq!(decode(b""), Ok(Frame::default()));
    assert_eq!(decode(b"\x01"), Ok(Frame::default()));
}

#[test]
fn another_version_is_refused() {
    for frame in [&b"\x00"[..], b"\x02\x04\x03\x0212", b"{}"] {
        assert!(matches!(decode(frame), Err(DecodeError::Binary(_))));
    }
}

#[test]
fn a_frame_that_is_cut_short_is_an_error_and_a_wrong_message_is_not() {
    assert!(matches!(decode(b"\x01\x04\x03\x021"), Err(DecodeError::Binary(_))));
    for bad in [
        &b"\x01\x01\x07"[..],
        b"\x01\x00",
        b"\x01\x04\x03\x021\0",
        b"\x01\x05\x03\x0212\0",
        b"\x01\x03\x03\x02\xff",
    ] {
        let frame = [bad, b"\x04\x03\x0212"].concat();
        let decoded = decode(&frame).unwrap();
        assert_eq!((decoded.messages.len(), decoded.rejected.len()), (1, 1), "{bad:?}");
    }
}

#[test]
fn a_length_beyond_the_frame_allocates_nothing() {
    // A content message that claims 2^63 sessions, and a text that claims as many bytes.
    for body in [&b"\x02\x011\0\x03\xfd\0\0\0\0\0\0\0\x80"[..], b"\x05\xfd\0\0\0\0\0\0\0\x80"] {
        let frame = [&[1, u8::try_from(body.len()).unwrap()], body].concat();
        assert_eq!(decode(&frame).unwrap().rejected.len(), 1);
    }
}

#[test]
fn a_malformed_session_leaves_the_others_alone() {
    let session = |owner: &str, transaction: &str| {
        let mut bytes = vec![0, u8::try_from(owner.len()).unwrap()];
        bytes.extend(owner.as_bytes());
        bytes.extend(b"\x011\0\x01");
        bytes.push(u8::try_from(transaction.len()).unwrap());
        bytes.extend(transaction.as_bytes());
        bytes.extend(b"\x011");
        bytes
    };
    let transaction = r#"{"changes":"[]","madeAt":1,"privacy":"trusting"}"#;
    let spaced = r#"{"changes":"[]","madeAt":1, "privacy":"trusting"}"#;
    for bad in [session("0", transaction), session("2", "{}"), session("2", spaced)] {
        let body = [&b"\x02\x011\0\x03\x02"[..], &bad, &session("1", transaction), b"\0"].concat();
        let frame = [&[1, u8::try_from(body.len()).unwrap()], &body[..]].concat();
        let decoded = decode(&frame).unwrap();
        assert_eq!(decoded.rejected, []);
        let Message::Content(content) = &decoded.messages[0] else { panic!("{decoded:?}") };
        assert_eq!((content.sessions.len(), content.malformed.len()), (1, 1));
    }
}
