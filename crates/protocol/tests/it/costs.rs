//! Allocations for decoding and encoding messages. Unlike times, they are the same in every run.
//! Each bound is the measured value (in the comment) plus a tenth. Raise a bound only for a good
//! reason, and lower it after an improvement.

use bytes::Bytes;
use downbeat_protocol::{
    BinaryCodec, Codec, JsonCodec, Message, SessionContent, Transaction, binary, json,
};

/// A content message of ten private transactions: 2.4 kB of JSON.
fn content() -> Bytes {
    let transactions: Vec<_> = (0..10)
        .map(|index| {
            let ciphertext = "aB3_-xYz9Q".repeat(12 + index % 8);
            format!(
                r#"{{"encryptedChanges":"encrypted_U{ciphertext}==","keyUsed":"key_zmhRoC5awrAhP4Qqz","madeAt":1795333719{index}92,"privacy":"private"}}"#
            )
        })
        .collect();
    format!(
        r#"{{"action":"content","id":"co_z3KtTqHpdiLVqUedLN8UzsfaYrx","priority":3,"new":{{"co_z4ht58AuLQgjaGmagVHAARGVRWk_session_zRWdnriVjeWM":{{"after":7,"newTransactions":[{}],"lastSignature":"signature_z63PXbZ2mvFcdKeynYnVRRTARunjCpt2QACJFzrB3ZhQdS81ACzUdFD3L6pXPqHELHMhQRXybwPJdGrGk6fjkVHo6"}}}}}}"#,
        transactions.join(",")
    )
    .into()
}

/// The LOAD message of a client with two sessions of a CoValue.
fn load() -> Bytes {
    Bytes::from_static(
        br#"{"action":"load","id":"co_z3KtTqHpdiLVqUedLN8UzsfaYrx","header":true,"sessions":{"co_z4ht58AuLQgjaGmagVHAARGVRWk_session_zRWdnriVjeWM":17,"co_z4ht58AuLQgjaGmagVHAARGVRWk_session_zBWdnriVjeWM":5}}"#,
    )
}

fn message(frame: &Bytes) -> Message {
    let frame = JsonCodec::default().decode(frame).expect("the frame is valid");
    frame.messages.into_iter().next().expect("the frame holds a message")
}

fn in_binary(message: &Message) -> Bytes {
    let mut frame = Vec::new();
    binary::encode_message(message, &mut frame);
    frame.into()
}

/// Checks how often some work allocates on this thread, and how many bytes in total.
#[track_caller]
fn assert_costs<T>(allocations: u64, bytes: u64, work: impl FnOnce() -> T) {
    let info = allocation_counter::measure(|| drop(work()));
    let measured = (info.count_total, info.bytes_total);
    assert!(measured.0 <= allocations && measured.1 <= bytes, "{measured:?}");
}

#[test]
fn transactions_are_read_as_slices_of_the_frame() {
    let (json, codec) = (content(), JsonCodec::default());
    // Measured: 7 of 2680 bytes.
    assert_costs(7, 2_950, || codec.decode(&json));
    let (frame, codec) = (in_binary(&message(&json)), BinaryCodec::default());
    // Measured: 10 of 2860 bytes.
    assert_costs(11, 3_150, || codec.decode(&frame));
}

#[test]
fn a_known_state_is_read_with_one_table() {
    let (json, codec) = (load(), JsonCodec::default());
    // Measured: 5 of 728 bytes.
    assert_costs(5, 800, || codec.decode(&json));
    let (frame, codec) = (in_binary(&message(&json)), BinaryCodec::default());
    // Measured: 8 of 860 bytes.
    assert_costs(8, 950, || codec.decode(&frame));
}

#[test]
fn a_message_is_written_into_the_frame_and_nothing_else() {
    for frame in [content(), load()] {
        let message = message(&frame);
        let mut into = Vec::with_capacity(2 * frame.len());
        assert_costs(0, 0, || json::encode_message(&message, &mut into));
        into.clear();
        assert_costs(0, 0, || binary::encode_message(&message, &mut into));
    }
}

/// A content message of a small session and others, with junk in an unknown member.
fn content_in_a_large_frame(others: &str, junk: &str) -> Bytes {
    let small = String::from_utf8(content().to_vec()).expect("it is JSON");
    let (start, sessions) = small.split_once(r#""new":{"#).expect("it has sessions");
    format!(r#"{start}"junk":"{junk}","new":{{{others}{sessions}"#).into()
}

/// The bytes that stay in memory with a small run of a frame.
fn bytes_kept(frame: &[u8], codec: &dyn Codec) -> i64 {
    let mut kept: Option<SessionContent> = None;
    let len = frame.len();
    // A copy inside of the measurement, so that it counts if it stays.
    let info = allocation_counter::measure(|| {
        let frame = Bytes::from(frame.to_vec());
        let mut messages = codec.decode(&frame).expect("the frame is valid").messages;
        let Some(Message::Content(content)) = messages.pop() else { panic!("no content") };
        kept = content.sessions.into_iter().find(|run| run.transactions.len() == 10);
    });
    let run = kept.expect("the small run is there");
    assert!(run.json_len() * 4 < len as u64);
    info.bytes_current
}

#[test]
fn a_small_run_does_not_keep_a_large_frame() {
    let junk = content_in_a_large_frame("", &"x".repeat(1 << 20));
    let kept = bytes_kept(&junk, &JsonCodec::default());
    assert!(kept < 8_000, "{kept}");

    let signature =
        "z63PXbZ2mvFcdKeynYnVRRTARunjCpt2QACJFzrB3ZhQdS81ACzUdFD3L6pXPqHELHMhQRXybwPJdGrGk6fjkVHo6";
    let large = format!(
        r#""co_z4ht58AuLQgjaGmagVHAARGVRWk_session_zLarge":{{"after":0,"newTransactions":[{{"changes":"{}","madeAt":1,"privacy":"trusting"}}],"lastSignature":"signature_{signature}"}},"#,
        "x".repeat(1 << 20)
    );
    let beside = content_in_a_large_frame(&large, "");
    let in_binary = in_binary(&message(&beside));
    for (frame, codec) in
        [(beside, &JsonCodec::default() as &dyn Codec), (in_binary, &BinaryCodec::default())]
    {
        let kept = bytes_kept(&frame, codec);
        assert!(kept < 8_000, "{kept}");
    }
}

#[test]
fn the_end_of_a_run_does_not_keep_what_was_dropped_before_it() {
    let large = Transaction::trusting(&"x".repeat(1 << 20), 1, None);
    let frame = in_binary(&message(&content()));
    let Message::Content(mut content) =
        BinaryCodec::default().decode(&frame).unwrap().messages.remove(0)
    else {
        panic!("no content")
    };
    let mut run = content.sessions.remove(0);
    run.transactions.insert(0, large);
    let mut frame = Vec::new();
    content.sessions = vec![run];
    binary::encode_message(&Message::Content(content), &mut frame);

    let mut kept = None;
    let info = allocation_counter::measure(|| {
        let frame = Bytes::from(frame.clone());
        let mut messages = BinaryCodec::default().decode(&frame).unwrap().messages;
        let Message::Content(content) = messages.remove(0) else { panic!("no content") };
        let mut run = content.sessions.into_iter().next().unwrap();
        run.drop_first(1);
        kept = Some(run);
    });
    let run = kept.unwrap();
    assert_eq!((run.after, run.transactions.len()), (8, 10));
    assert!(info.bytes_current < 8_000, "{}", info.bytes_current);
}
