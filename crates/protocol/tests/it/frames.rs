//! JSON frames: valid and invalid messages, and the effect of an invalid one on the frame.

use bytes::Bytes;
use downbeat_protocol::{
    Content, DecodeError, Frame, Known, KnownState, Limits, Message, Ping, Priority, Reconcile,
    ShortHash, json,
};

const SESSION: &str = "co_z1_session_z1";
const TRANSACTION: &str = r#"{"changes":"[]","madeAt":1,"privacy":"trusting"}"#;

fn decode(frame: &str) -> Frame {
    json::decode_frame(&Bytes::copy_from_slice(frame.as_bytes()), &Limits::default()).unwrap()
}

/// The message of a frame that has only this message.
fn message(frame: &str) -> Message {
    let mut frame = decode(frame);
    assert_eq!(frame.rejected, []);
    assert_eq!(frame.messages.len(), 1);
    frame.messages.remove(0)
}

/// The error of the only line of a frame.
fn rejected(frame: &str) -> DecodeError {
    let mut frame = decode(frame);
    assert_eq!(frame.messages, []);
    assert_eq!(frame.rejected.len(), 1);
    frame.rejected.remove(0)
}

fn content(sessions: &str) -> Content {
    let frame = format!(r#"{{"action":"content","id":"co_z1","priority":3,"new":{{{sessions}}}}}"#);
    let Message::Content(content) = message(&frame) else { panic!("{frame}") };
    content
}

fn session(id: &str, transactions: &str) -> String {
    format!(
        r#""{id}":{{"after":0,"newTransactions":[{transactions}],"lastSignature":"signature_z1"}}"#
    )
}

fn state(header: bool, sessions: &[(&str, u64)]) -> KnownState {
    let sessions = sessions.iter().map(|&(id, count)| (id.parse().unwrap(), count)).collect();
    KnownState { id: "co_z1".parse().unwrap(), header, sessions }
}

fn known(state: KnownState) -> Known {
    Known { state, is_correction: false, as_dependency_of: None }
}

#[test]
fn every_kind_of_message_is_read_and_written_as_the_reference_does() {
    let hash = ShortHash::from_bytes([1; 19]);
    let cases = [
        (
            format!(
                r#"{{"action":"load","id":"co_z1","header":true,"sessions":{{"{SESSION}":2}}}}"#
            ),
            Message::Load(state(true, &[(SESSION, 2)])),
        ),
        (
            r#"{"action":"known","id":"co_z1","header":false,"sessions":{}}"#.to_owned(),
            Message::Known(known(state(false, &[]))),
        ),
        (
            r#"{"action":"known","isCorrection":true,"id":"co_z1","header":false,"sessions":{}}"#
                .to_owned(),
            Message::Known(Known { is_correction: true, ..known(state(false, &[])) }),
        ),
        (
            r#"{"action":"known","asDependencyOf":"co_z2","id":"co_z1","header":true,"sessions":{}}"#
                .to_owned(),
            Message::Known(Known {
                as_dependency_of: Some("co_z2".parse().unwrap()),
                ..known(state(true, &[]))
            }),
        ),
        (
            r#"{"action":"done","id":"co_z1"}"#.to_owned(),
            Message::Done("co_z1".parse().unwrap()),
        ),
        (
            format!(r#"{{"action":"reconcile","id":"\"batch\n","values":[["co_z1","{hash}"]]}}"#),
            Message::Reconcile(Reconcile {
                id: "\"batch\n".to_owned(),
                values: vec![("co_z1".parse().unwrap(), hash)],
            }),
        ),
        (
            r#"{"action":"reconcile-ack","id":"batch"}"#.to_owned(),
            Message::ReconcileAck("batch".to_owned()),
        ),
    ];
    for (frame, expected) in cases {
        assert_eq!(message(&frame), expected);
        let mut written = Vec::new();
        json::encode_message(&expected, &mut written);
        assert_eq!(String::from_utf8(written).unwrap(), frame);
    }
}

#[test]
fn content_is_written_in_the_order_of_the_reference() {
    let header = r#"{"createdAt":null,"meta":null,"ruleset":{"type":"unsafeAllowAll"},"type":"comap","uniqueness":null}"#;
    let frame = format!(
        r#"{{"action":"content","id":"co_z1","header":{header},"priority":0,"new":{{{}}},"expectContentUntil":{{"{SESSION}":5}}}}"#,
        session(SESSION, &[TRANSACTION; 2].join(","))
    );
    let mut written = Vec::new();
    json::encode_message(&message(&frame), &mut written);
    assert_eq!(String::from_utf8(written).unwrap(), frame);
}

#[test]
fn a_ping_is_no_message() {
    let frame = decode("{\"type\":\"ping\",\"time\":1795333719289,\"dc\":\"a\\\"b\"}");
    let ping = Ping { time: 1_795_333_719_289, dc: "a\"b".to_owned() };
    assert_eq!(frame, Frame { ping: Some(ping.clone()), ..Frame::default() });
    let mut written = Vec::new();
    json::encode_ping(&ping, &mut written);
    assert_eq!(decode(str::from_utf8(&written).unwrap()).ping, Some(ping));
    assert_eq!(rejected(r#"{"type":"ping","dc":"x"}"#), DecodeError::Missing("time"));
}

#[test]
fn several_lines_are_a_batch() {
    let done = r#"{"action":"done","id":"co_z1"}"#;
    assert!(!decode(done).batched);
    let frame = decode(&format!("{done}\n{done}"));
    assert!(frame.batched);
    assert_eq!(frame.messages.len(), 2);
    assert!(decode(&format!("{done}\n{{\"type\":\"ping\",\"time\":1,\"dc\":\"x\"}}")).batched);
}

#[test]
fn json_that_is_no_message_leaves_the_other_messages_alone() {
    let done = r#"{"action":"done","id":"co_z1"}"#;
    for bad in [
        "null",
        "5",
        r#""text""#,
        "[]",
        "{}",
        r#"{"action":5,"id":"co_z1"}"#,
        r#"{"action":"done"}"#,
        r#"{"action":"done","id":5}"#,
        r#"{"action":"done","id":"co_x1"}"#,
        r#"{"action":"done","id":"co_z0"}"#,
        r#"{"action":"done","id":"\ud800"}"#,
        r#"{"action":"other","id":"co_z1"}"#,
        r#"{"action":"load","id":"co_z1","sessions":{}}"#,
        r#"{"action":"load","id":"co_z1","header":null,"sessions":{}}"#,
        r#"{"action":"load","id":"co_z1","header":true}"#,
        r#"{"action":"load","id":"co_z1","header":true,"sessions":[]}"#,
        r#"{"action":"known","id":"co_z1","header":true,"sessions":{},"isCorrection":1}"#,
        r#"{"action":"known","id":"co_z1","header":true,"sessions":{},"asDependencyOf":"x"}"#,
        r#"{"action":"content","id":"co_z1"}"#,
        r#"{"action":"content","id":"co_z1","new":[]}"#,
        r#"{"action":"content","id":"co_z1","new":{},"header":{}}"#,
        r#"{"action":"content","id":"co_z1","new":{},"header":true}"#,
        r#"{"action":"content","id":"co_z1","new":{},"priority":"high"}"#,
        r#"{"action":"content","id":"co_z1","new":{},"expectContentUntil":5}"#,
        r#"{"action":"reconcile","id":"x","values":{}}"#,
        r#"{"action":"reconcile","id":"x","values":[["co_z1"]]}"#,
        r#"{"action":"reconcile","id":"x","values":[["co_z1","shortHash_z1"]]}"#,
        r#"{"action":"reconcile","id":"x","values":[["co_z1","a","b"]]}"#,
    ] {
        let frame = decode(&format!("{done}\n{bad}\n{done}"));
        assert_eq!((frame.messages.len(), frame.rejected.len()), (2, 1), "{bad}");
    }
}

#[test]
fn an_error_quotes_only_the_beginning_of_what_is_wrong() {
    let long = "é".repeat(10_000);
    for frame in [
        format!(r#"{{"action":"{long}","id":"co_z1"}}"#),
        format!(r#"{{"action":"done","id":"{long}"}}"#),
    ] {
        assert!(rejected(&frame).to_string().len() < 200);
    }
    let content = content(&session(&long, ""));
    assert!(content.malformed[0].session.len() < 100);
}

#[test]
fn unknown_members_are_ignored_and_white_space_is_nothing() {
    let frame = " {\t\"more\" : [ {\"id\":5} , null ] ,\"\\u0061ction\":\"do\\u006ee\",\"id\":\"co_z1\"\r} ";
    assert_eq!(message(frame), Message::Done("co_z1".parse().unwrap()));
}

#[test]
fn of_repeated_members_the_last_counts_even_if_another_is_wrong() {
    let frame = r#"{"action":5,"id":"co_z2","action":"done","id":"co_z1"}"#;
    assert_eq!(message(frame), Message::Done("co_z1".parse().unwrap()));
    rejected(r#"{"action":"done","id":"co_z1","id":5}"#);
}

#[test]
fn counts_are_whole_numbers_that_javascript_holds_exactly() {
    let load = |count: &str| {
        format!(
            r#"{{"action":"load","id":"co_z1","header":true,"sessions":{{"{SESSION}":{count}}}}}"#
        )
    };
    for (text, count) in
        [("0", 0), ("-0", 0), ("7.0", 7), ("1e3", 1000), ("9007199254740991", (1 << 53) - 1)]
    {
        assert_eq!(message(&load(text)), Message::Load(state(true, &[(SESSION, count)])), "{text}");
    }
    for text in ["-1", "1.5", "9007199254740992", "1e400", "1e-400001", "\"1\"", "null", "true"] {
        // A number that is too small becomes zero, as in JavaScript.
        if text == "1e-400001" {
            assert_eq!(message(&load(text)), Message::Load(state(true, &[])));
        } else {
            rejected(&load(text));
        }
    }
}

#[test]
fn a_malformed_session_leaves_the_others_alone() {
    let good = session("co_z1_session_zgood", TRANSACTION);
    for bad in [
        session("co_z1", TRANSACTION),
        session("session", ""),
        session(SESSION, "{}"),
        session(SESSION, &format!("{TRANSACTION},5")),
        session(SESSION, r#"{"changes":"\ud800","madeAt":1,"privacy":"trusting"}"#),
        format!(r#""{SESSION}":5"#),
        format!(r#""{SESSION}":{{"after":0,"newTransactions":[]}}"#),
        format!(r#""{SESSION}":{{"newTransactions":[],"lastSignature":"signature_z1"}}"#),
        format!(r#""{SESSION}":{{"after":0,"lastSignature":"signature_z1"}}"#),
        format!(
            r#""{SESSION}":{{"after":-1,"newTransactions":[],"lastSignature":"signature_z1"}}"#
        ),
        format!(
            r#""{SESSION}":{{"after":0,"newTransactions":{{}},"lastSignature":"signature_z1"}}"#
        ),
        format!(r#""{SESSION}":{{"after":0,"newTransactions":[],"lastSignature":"sig"}}"#),
    ] {
        for sessions in [format!("{bad},{good}"), format!("{good},{bad}")] {
            let content = content(&sessions);
            assert_eq!(content.malformed.len(), 1, "{bad}");
            assert_eq!(content.sessions.len(), 1, "{bad}");
            assert_eq!(content.sessions[0].session.as_str(), "co_z1_session_zgood");
        }
    }
}

#[test]
fn malformed_sessions_do_not_add_up() {
    // Each error occurs in the middle of a value, at some depth.
    let sessions: Vec<_> = (1..100)
        .map(|index| session(&format!("co_z1_session_z1{}", "1".repeat(index)), r#"{"madeAt":[]}"#))
        .collect();
    assert_eq!(content(&sessions.join(",")).malformed.len(), 99);
}

#[test]
fn of_a_repeated_session_the_last_counts() {
    let (two, one) = (session(SESSION, &[TRANSACTION; 2].join(",")), session(SESSION, TRANSACTION));
    let bad = session(SESSION, "5");
    let last_of = |sessions: &[&str]| content(&sessions.join(","));
    assert_eq!(last_of(&[&two, &one]).sessions[0].transactions.len(), 1);
    assert_eq!(last_of(&[&bad, &two]).sessions[0].transactions.len(), 2);
    assert!(last_of(&[&bad, &two]).malformed.is_empty());
    assert!(last_of(&[&two, &bad]).sessions.is_empty());
    assert_eq!(last_of(&[&two, &bad]).malformed.len(), 1);
}

#[test]
fn a_session_may_have_no_transactions() {
    let content = content(&session(SESSION, ""));
    assert_eq!(content.sessions[0].transactions, []);
    assert_eq!(content.malformed, []);
}

#[test]
fn content_needs_no_header_nor_priority() {
    let Message::Content(content) =
        message(r#"{"action":"content","id":"co_z1","header":null,"new":{},"priority":4}"#)
    else {
        panic!("not content")
    };
    assert_eq!((content.header, content.priority), (None, Priority::Medium));
    assert_eq!(content.expect_content_until, None);
}

#[test]
fn transactions_that_are_not_canonical_are_copied_and_the_others_are_not() {
    let frame = Bytes::from(format!(
        r#"{{"action":"content","id":"co_z1","new":{{{}}}}}"#,
        session(
            SESSION,
            &format!(r#"{TRANSACTION}, {{"privacy":"trusting","madeAt":1e0,"changes":"\u005b]"}}"#)
        )
    ));
    let decoded = json::decode_frame(&frame, &Limits::default()).unwrap();
    let Message::Content(content) = &decoded.messages[0] else { panic!("{decoded:?}") };
    let [slice, copy] = &content.sessions[0].transactions[..] else { panic!("{content:?}") };
    assert_eq!(slice, copy);
    assert!(frame.as_ptr_range().contains(&slice.json().as_ptr()));
    assert!(!frame.as_ptr_range().contains(&copy.json().as_ptr()));
}
