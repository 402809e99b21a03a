//! Comparing known states of 1,000 sessions. Must take less than 20 µs.

use divan::{Bencher, black_box};
use downbeat_core::known_state;
use downbeat_protocol::{SessionCounts, SessionId};

const SESSIONS: u64 = 1000;

fn main() {
    divan::main();
}

/// Counts of 1,000 sessions of 250 accounts, each id parsed separately as from a peer's message.
fn counts(count: impl Fn(u64) -> u64) -> SessionCounts {
    (0..SESSIONS)
        .map(|index| {
            let account = digits((index / 4).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let id = format!("co_z{account}znKg8yzFP9wzc_session_zD6QQV4RY{}", index + 1111)
                .replace('0', "z");
            (SessionId::parse(&id).unwrap(), count(index))
        })
        .collect()
}

/// Ten digits that look random. As in real ids, the first digits differ between most ids.
fn digits(number: u64) -> String {
    (0..10).map(|index| char::from(b'a' + number.to_le_bytes()[index % 8] % 11)).collect()
}

#[divan::bench]
fn missing_from_an_equal_state(bencher: Bencher<'_, '_>) {
    let (ours, theirs) = (counts(|index| index + 1), counts(|index| index + 1));
    bencher.bench_local(|| known_state::missing(black_box(&ours), black_box(&theirs)));
}

#[divan::bench]
fn missing_one_session_in_ten(bencher: Bencher<'_, '_>) {
    let ours = counts(|index| index + 1);
    let theirs = counts(|index| if index % 10 == 0 { index } else { index + 1 });
    bencher.bench_local(|| known_state::missing(black_box(&ours), black_box(&theirs)));
}

#[divan::bench]
fn missing_every_session_but_one(bencher: Bencher<'_, '_>) {
    let ours = counts(|index| index + 2);
    let theirs = counts(|index| if index == 0 { 2 } else { index });
    bencher.bench_local(|| known_state::missing(black_box(&ours), black_box(&theirs)));
}

#[divan::bench]
fn missing_every_session(bencher: Bencher<'_, '_>) {
    let (ours, theirs) = (counts(|index| index + 2), counts(|index| index + 1));
    bencher.bench_local(|| known_state::missing(black_box(&ours), black_box(&theirs)));
}

#[divan::bench]
fn merge_an_equal_state(bencher: Bencher<'_, '_>) {
    let (ours, theirs) = (counts(|index| index + 1), counts(|index| index + 1));
    bencher.with_inputs(|| ours.clone()).bench_local_values(|mut ours| {
        known_state::merge_counts(&mut ours, black_box(&theirs));
        ours
    });
}
