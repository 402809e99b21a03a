//! Allocations for decoding and encoding messages. Unlike times, they are the same in every run.
//! Each bound is the measured value (in the comment) plus a tenth. Raise a bound only for a good
//! reason, and lower it after an improvement.

use bytes::Bytes;
use downbeat_protocol::{BinaryCodec, Codec, JsonCodec, Message, binary, json};

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
