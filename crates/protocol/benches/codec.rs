//! What it costs to read a content message and keep its bytes, and to write it for another peer.
//!
//! The yardstick is `serde_json::Value`, which is what a program without this crate would reach
//! for: reading must cost less than half of it.

use bytes::Bytes;
use divan::{Bencher, black_box, counter::BytesCount};
use downbeat_protocol::{Limits, json};

fn main() {
    divan::main();
}

/// A content message of ten private transactions, as a client sends it for small edits.
fn private_content() -> Bytes {
    let transactions: Vec<_> = (0..10)
        .map(|index| {
            let ciphertext = "aB3_-xYz9Q".repeat(12 + index % 8);
            format!(
                r#"{{"encryptedChanges":"encrypted_U{ciphertext}==","keyUsed":"key_zmhRoC5awrAhP4Qqz","madeAt":1795333719{index}92,"privacy":"private"}}"#
            )
        })
        .collect();
    content(&transactions)
}

/// A content message of ten trusting transactions, as a group's: with many escapes.
fn trusting_content() -> Bytes {
    let transactions: Vec<_> = (0..10)
        .map(|index| {
            format!(
                r#"{{"changes":"[{{\"op\":\"set\",\"key\":\"co_z4ht58AuLQgjaGmagVHAARGVRW{index}\",\"value\":\"admin\"}}]","madeAt":1795333719{index}92,"privacy":"trusting"}}"#
            )
        })
        .collect();
    content(&transactions)
}

fn content(transactions: &[String]) -> Bytes {
    format!(
        r#"{{"action":"content","id":"co_z3KtTqHpdiLVqUedLN8UzsfaYrx","priority":3,"new":{{"co_z4ht58AuLQgjaGmagVHAARGVRWk_session_zRWdnriVjeWM":{{"after":7,"newTransactions":[{}],"lastSignature":"signature_z63PXbZ2mvFcdKeynYnVRRTARunjCpt2QACJFzrB3ZhQdS81ACzUdFD3L6pXPqHELHMhQRXybwPJdGrGk6fjkVHo6"}}}}}}"#,
        transactions.join(",")
    )
    .into()
}

#[divan::bench_group]
mod decode {
    use super::*;

    #[divan::bench]
    fn json_private(bencher: Bencher) {
        let frame = private_content();
        bencher
            .counter(BytesCount::of_slice(&frame))
            .bench(|| json::decode_frame(black_box(&frame), &Limits::default()).unwrap());
    }

    #[divan::bench]
    fn json_trusting(bencher: Bencher) {
        let frame = trusting_content();
        bencher
            .counter(BytesCount::of_slice(&frame))
            .bench(|| json::decode_frame(black_box(&frame), &Limits::default()).unwrap());
    }

    #[divan::bench]
    fn serde_json_value_private(bencher: Bencher) {
        let frame = String::from_utf8(private_content().to_vec()).unwrap();
        bencher
            .counter(BytesCount::of_str(&frame))
            .bench(|| serde_json::from_str::<serde_json::Value>(black_box(&frame)).unwrap());
    }

    #[divan::bench]
    fn serde_json_value_trusting(bencher: Bencher) {
        let frame = String::from_utf8(trusting_content().to_vec()).unwrap();
        bencher
            .counter(BytesCount::of_str(&frame))
            .bench(|| serde_json::from_str::<serde_json::Value>(black_box(&frame)).unwrap());
    }
}
