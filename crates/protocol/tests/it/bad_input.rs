//! Arbitrary bytes: decoding returns a result or a typed error, within the limits.

use bytes::Bytes;
use downbeat_protocol::{
    BinaryCodec, Codec, DecodeError, Header, JsonCodec, Limit, Limits, MAX_BATCH_ID_LEN, Message,
    Reconcile, ShortHash, Transaction, binary, json,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::arbitrary;

const TRANSACTION: &str = r#"{"changes":"[]","madeAt":1,"privacy":"trusting"}"#;

/// Gives the bytes to every parser and decoder.
fn read_with_everything(bytes: Vec<u8>) {
    let bytes = Bytes::from(bytes);
    let limits = Limits::default();
    let _ = json::decode_frame(&bytes, &limits);
    let _ = json::canonicalize(&bytes, &limits);
    let _ = Header::parse(&bytes, &limits);
    let _ = Transaction::parse(&bytes, &limits);
    let _ = binary::decode_frame(&bytes, &limits);
}

/// Random sequences of parts of messages, which get further than random bytes.
fn json_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(&b"{\"action\":\"content\",\"id\":\"co_z1\",\"new\":{\"co_z1_session_z1\":{"[..]),
        Just(&b"\"newTransactions\":["[..]),
        Just(TRANSACTION.as_bytes()),
        Just(&b"\"lastSignature\":\"signature_z1\",\"after\":"[..]),
        Just(&b"\"encryptedChanges\":\"encrypted_U"[..]),
        Just(&b"\"sessions\":{"[..]),
        Just(&b"\\ud83d"[..]),
        Just(&b"\\u00"[..]),
        Just(&b"1e9"[..]),
        Just(&b"null"[..]),
        Just(&b"\n"[..]),
        Just(&b"\xf0\x9f"[..]),
        Just(&b"{"[..]),
        Just(&b"}"[..]),
        Just(&b"["[..]),
        Just(&b"]"[..]),
        Just(&b"\""[..]),
        Just(&b":"[..]),
        Just(&b","[..]),
        Just(&b"\\"[..]),
    ];
    vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..300)) {
        read_with_everything(bytes);
    }

    #[test]
    fn random_bytes_of_the_right_version_do_no_harm(mut bytes in vec(any::<u8>(), 1..300)) {
        bytes[0] = binary::VERSION;
        read_with_everything(bytes);
    }

    #[test]
    fn what_looks_like_json_does_no_harm(bytes in json_like()) {
        read_with_everything(bytes);
    }

    #[test]
    fn a_damaged_message_does_no_harm(
        message in arbitrary::message(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        for codec in [&JsonCodec::default() as &dyn Codec, &BinaryCodec::default()] {
            let mut frame = Vec::new();
            codec.encode(&message, &mut frame);
            let at = at.index(frame.len());
            if cut { frame.truncate(at) } else { frame[at] = byte }
            read_with_everything(frame);
        }
    }
}

/// The error of the only message of a frame, or of the frame.
fn error(codec: &dyn Codec, frame: Vec<u8>) -> Option<DecodeError> {
    match codec.decode(&frame.into()) {
        Ok(frame) => frame.rejected.into_iter().next(),
        Err(error) => Some(error),
    }
}

/// Checks that both codecs accept the messages at a limit and refuse them over it.
fn check_limit(messages: &[Message], limit: Limit, max: usize, set: fn(&mut Limits, usize)) {
    for (max, expected) in
        [(max, None), (max - 1, Some(DecodeError::LimitExceeded { limit, max: max as u64 - 1 }))]
    {
        let mut limits = Limits::default();
        set(&mut limits, max);
        for codec in [&JsonCodec { limits } as &dyn Codec, &BinaryCodec { limits }] {
            let mut frame = Vec::new();
            for message in messages {
                codec.encode(message, &mut frame);
            }
            assert_eq!(error(codec, frame), expected, "{limit:?}");
        }
    }
}

fn message(json: &str) -> Message {
    let frame = JsonCodec::default().decode(&Bytes::copy_from_slice(json.as_bytes())).unwrap();
    frame.messages.into_iter().next().unwrap()
}

#[test]
fn a_frame_holds_so_many_messages() {
    let done = message(r#"{"action":"done","id":"co_z1"}"#);
    check_limit(&[done.clone(), done], Limit::MessagesPerFrame, 2, |limits, max| {
        limits.messages_per_frame = max;
    });
}

#[test]
fn a_message_holds_so_many_bytes() {
    for codec in [&JsonCodec::default() as &dyn Codec, &BinaryCodec::default()] {
        let mut frame = Vec::new();
        codec.encode(&message(r#"{"action":"reconcile-ack","id":"1234567890"}"#), &mut frame);
        let limits = |max| Limits { message_bytes: max, ..Limits::default() };
        let with = |max| match frame.first() {
            Some(b'{') => error(&JsonCodec { limits: limits(max) }, frame.clone()),
            _ => error(&BinaryCodec { limits: limits(max) }, frame.clone()),
        };
        assert_eq!(with(frame.len()), None);
        let expected = DecodeError::LimitExceeded { limit: Limit::MessageBytes, max: 10 };
        assert_eq!(with(10), Some(expected));
    }
}

#[test]
fn a_header_holds_so_many_bytes() {
    let header = r#"{"createdAt":null,"meta":null,"ruleset":{"type":"unsafeAllowAll"},"type":"comap","uniqueness":"z1"}"#;
    let content =
        message(&format!(r#"{{"action":"content","id":"co_z1","header":{header},"new":{{}}}}"#));
    check_limit(&[content], Limit::HeaderBytes, header.len(), |limits, max| {
        limits.header_bytes = max;
    });
}

#[test]
fn a_message_holds_so_many_sessions_and_transactions() {
    let session = |id: &str| {
        format!(
            r#""co_z1_session_z{id}":{{"after":0,"newTransactions":[{TRANSACTION},{TRANSACTION}],"lastSignature":"signature_z1"}}"#
        )
    };
    let content = message(&format!(
        r#"{{"action":"content","id":"co_z1","new":{{{},{}}}}}"#,
        session("a"),
        session("b")
    ));
    let content = [content];
    check_limit(&content, Limit::Sessions, 2, |limits, max| limits.sessions = max);
    check_limit(&content, Limit::Transactions, 4, |limits, max| limits.transactions = max);

    let load = message(
        r#"{"action":"load","id":"co_z1","header":true,"sessions":{"co_z1_session_za":1,"co_z1_session_zb":1}}"#,
    );
    check_limit(&[load], Limit::Sessions, 2, |limits, max| limits.sessions = max);
}

#[test]
fn a_reconcile_message_holds_so_many_values() {
    let value = format!(r#"["co_z1","{}"]"#, ShortHash::from_bytes([1; 19]));
    let reconcile =
        message(&format!(r#"{{"action":"reconcile","id":"x","values":[{value},{value}]}}"#));
    check_limit(&[reconcile], Limit::ReconcileValues, 2, |limits, max| {
        limits.reconcile_values = max;
    });
}

#[test]
fn the_id_of_a_batch_is_short() {
    let messages = |len: usize| {
        let id = "x".repeat(len);
        let reconcile = Reconcile { id: id.clone(), values: Vec::new() };
        [Message::Reconcile(reconcile), Message::ReconcileAck(id)]
    };
    let too_long =
        DecodeError::Invalid { member: "id", expected: "a batch id of at most 1,024 bytes" };
    for (len, expected) in [(MAX_BATCH_ID_LEN, None), (MAX_BATCH_ID_LEN + 1, Some(too_long))] {
        for message in messages(len) {
            for codec in [&JsonCodec::default() as &dyn Codec, &BinaryCodec::default()] {
                let mut frame = Vec::new();
                codec.encode(&message, &mut frame);
                assert_eq!(error(codec, frame), expected);
            }
        }
    }
}

#[test]
fn only_the_message_size_limits_a_transaction() {
    // As long as transactions of clients before 0.18, with and without escapes.
    for changes in ["x".repeat(3 << 20), "\n".repeat(1 << 20)] {
        let transaction = Transaction::private(&changes, "key_z1", 1, None);
        let text = std::str::from_utf8(transaction.json()).unwrap();
        let content = message(&format!(
            r#"{{"action":"content","id":"co_z1","new":{{"co_z1_session_za":{{"after":0,"newTransactions":[{text}],"lastSignature":"signature_z1"}}}}}}"#
        ));
        for codec in [&JsonCodec::default() as &dyn Codec, &BinaryCodec::default()] {
            let mut frame = Vec::new();
            codec.encode(&content, &mut frame);
            assert_eq!(
                codec.decode(&frame.into()).unwrap().messages,
                std::slice::from_ref(&content)
            );
        }
        let Message::Content(content) = content else { panic!("no content") };
        assert_eq!(content.sessions[0].transactions, [transaction]);
    }
}

#[test]
fn what_is_in_a_header_is_nested_as_deep_as_the_reference_takes_it() {
    let parse = |meta: &str| {
        let json = format!(
            r#"{{"meta":{meta},"ruleset":{{"type":"unsafeAllowAll"}},"type":"x","uniqueness":null}}"#
        );
        Header::parse(&Bytes::from(json), &Limits::default())
    };
    let arrays = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let objects = |depth: usize| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    for depth in [70, 126] {
        assert!(parse(&arrays(depth)).is_ok(), "{depth}");
        assert!(parse(&objects(depth)).is_ok(), "{depth}");
    }
    assert!(parse(&arrays(127)).is_err());
    assert!(parse(&objects(127)).is_err());
    // Members that are not part of the header may be deeper.
    assert!(parse(&format!(r#"null,"more":{}"#, arrays(2_000))).is_ok());
}

#[test]
fn json_is_nested_so_deep() {
    let nested = |depth: usize| Bytes::from("[".repeat(depth) + &"]".repeat(depth));
    let limits = Limits { depth: 3, ..Limits::default() };
    let too_deep = Err(DecodeError::LimitExceeded { limit: Limit::Depth, max: 3 });
    assert!(json::canonicalize(&nested(3), &limits).is_ok());
    assert_eq!(json::canonicalize(&nested(4), &limits), too_deep);
    let message = too_deep.as_ref().unwrap_err().to_string();
    assert_eq!(message, "more than the limit `depth` of 3");
    let header = |meta: &str| {
        Bytes::from(format!(
            r#"{{"meta":{meta},"ruleset":{{"type":"unsafeAllowAll"}},"type":"x","uniqueness":null}}"#
        ))
    };
    assert!(Header::parse(&header("[[]]"), &limits).is_ok());
    assert_eq!(Header::parse(&header("[[[]]]"), &limits).map(drop), too_deep.map(drop));
}

#[test]
fn no_depth_is_too_much_for_the_stack() {
    const DEPTH: usize = 200_000;
    let limits = Limits { depth: usize::MAX, ..Limits::default() };
    let arrays = "[".repeat(DEPTH) + &"]".repeat(DEPTH);
    let objects = "{\"a\":".repeat(DEPTH) + "1" + &"}".repeat(DEPTH);
    for nested in [arrays, objects] {
        // Sorting a level may copy its whole content.
        let too_deep = Err(DecodeError::LimitExceeded { limit: Limit::Depth, max: 128 });
        assert_eq!(json::canonicalize(&nested.clone().into(), &limits), too_deep);
        assert_eq!(json::canonicalize(&format!(" {nested}").into(), &limits), too_deep);
        let frame = format!(r#"{{"action":"done","id":"co_z1","more":{nested}}}"#);
        assert_eq!(json::decode_frame(&frame.into(), &limits).unwrap().messages.len(), 1);
    }
}
