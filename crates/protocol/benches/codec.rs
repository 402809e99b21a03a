//! Decoding a content message whose bytes are kept, and encoding it for another peer.
//!
//! The baseline is `serde_json::Value`, which a program without this crate would use. Decoding must
//! take less than half of its time.

use bytes::Bytes;
use divan::{Bencher, black_box, counter::BytesCount};
use downbeat_protocol::{BinaryCodec, Codec, Header, JsonCodec, Limits, Message, binary, json};

fn main() {
    divan::main();
}

/// Decoding a JSON frame without copies. Must take less than half of the baseline.
#[divan::bench(args = [Kind::Private, Kind::Trusting])]
fn decode_json(bencher: Bencher, kind: Kind) {
    let frame = content(kind);
    let codec = JsonCodec::default();
    bencher
        .counter(BytesCount::of_slice(&*frame))
        .bench(|| codec.decode(black_box(&frame)).expect("the frame is valid"));
}

/// The baseline.
#[divan::bench(args = [Kind::Private, Kind::Trusting])]
fn decode_serde_json_value(bencher: Bencher, kind: Kind) {
    let frame = content(kind);
    let text = str::from_utf8(&frame).expect("JSON is UTF-8");
    bencher
        .counter(BytesCount::of_str(text))
        .bench(|| serde_json::from_str::<serde_json::Value>(black_box(text)));
}

#[divan::bench(args = [Kind::Private, Kind::Trusting])]
fn decode_binary(bencher: Bencher, kind: Kind) {
    let mut frame = Vec::new();
    binary::encode_message(&message(kind), &mut frame);
    let frame = Bytes::from(frame);
    let codec = BinaryCodec::default();
    bencher
        .counter(BytesCount::of_slice(&*frame))
        .bench(|| codec.decode(black_box(&frame)).expect("the frame is valid"));
}

#[divan::bench(args = [Kind::Private, Kind::Trusting])]
fn encode_json(bencher: Bencher, kind: Kind) {
    let message = message(kind);
    bencher.bench(|| {
        let mut frame = Vec::new();
        json::encode_message(black_box(&message), &mut frame);
        frame
    });
}

/// The lower bound of encoding: one copy of the frame.
#[divan::bench(args = [Kind::Private, Kind::Trusting])]
fn copy_of_the_frame(bencher: Bencher, kind: Kind) {
    let frame = content(kind);
    bencher.bench(|| black_box(&frame).to_vec());
}

#[divan::bench(args = [Kind::Private, Kind::Trusting])]
fn encode_binary(bencher: Bencher, kind: Kind) {
    let message = message(kind);
    bencher.bench(|| {
        let mut frame = Vec::new();
        binary::encode_message(black_box(&message), &mut frame);
        frame
    });
}

/// A header as a client sends it, not canonical.
#[divan::bench]
fn parse_header(bencher: Bencher) {
    let json = Bytes::from_static(
        br#"{"type":"comap","ruleset":{"type":"ownedByGroup","group":"co_zAskbsN81tFNWPei3cnpQCwVNcA"},"meta":null,"createdAt":"2026-11-22T07:48:39.291Z","uniqueness":"z4br3F6sRwRzoY4hy9"}"#,
    );
    bencher.bench(|| Header::parse(black_box(&json), &Limits::default()));
}

/// A content message of ten transactions.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Small edits of a client.
    Private,
    /// Changes of a group, with many escapes.
    Trusting,
}

fn message(kind: Kind) -> Message {
    let frame = JsonCodec::default().decode(&content(kind)).expect("the frame is valid");
    frame.messages.into_iter().next().expect("the frame holds a message")
}

fn content(kind: Kind) -> Bytes {
    let transactions: Vec<_> = (0..10)
        .map(|index| match kind {
            Kind::Private => {
                let ciphertext = "aB3_-xYz9Q".repeat(12 + index % 8);
                format!(
                    r#"{{"encryptedChanges":"encrypted_U{ciphertext}==","keyUsed":"key_zmhRoC5awrAhP4Qqz","madeAt":1795333719{index}92,"privacy":"private"}}"#
                )
            }
            Kind::Trusting => format!(
                r#"{{"changes":"[{{\"op\":\"set\",\"key\":\"co_z4ht58AuLQgjaGmagVHAARGVRW{index}\",\"value\":\"admin\"}}]","madeAt":1795333719{index}92,"privacy":"trusting"}}"#
            ),
        })
        .collect();
    format!(
        r#"{{"action":"content","id":"co_z3KtTqHpdiLVqUedLN8UzsfaYrx","priority":3,"new":{{"co_z4ht58AuLQgjaGmagVHAARGVRWk_session_zRWdnriVjeWM":{{"after":7,"newTransactions":[{}],"lastSignature":"signature_z63PXbZ2mvFcdKeynYnVRRTARunjCpt2QACJFzrB3ZhQdS81ACzUdFD3L6pXPqHELHMhQRXybwPJdGrGk6fjkVHo6"}}}}}}"#,
        transactions.join(",")
    )
    .into()
}
