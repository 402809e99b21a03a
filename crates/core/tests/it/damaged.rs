//! Content that is damaged on the way: only transactions that their authors signed are accepted.

use downbeat_core::CoValue;
use downbeat_protocol::{Limits, Message, Owner, json};
use proptest::prelude::*;

use crate::vectors::{self, Loaded};

/// Damage to one place of a message.
#[derive(Debug, Clone)]
enum Damage {
    Replace(u8),
    Insert(u8),
    Remove(usize),
    Repeat(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    // Bytes with a meaning in JSON leave more messages readable.
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"\"\\{}[],:0159 azAZ$".as_slice())];
    prop_oneof![
        byte.clone().prop_map(Damage::Replace),
        byte.prop_map(Damage::Insert),
        (1..60_usize).prop_map(Damage::Remove),
        (1..60_usize).prop_map(Damage::Repeat),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: Vec<(prop::sample::Index, Damage)>) -> Vec<u8> {
    for (place, damage) in damages {
        let place = place.index(bytes.len());
        match damage {
            Damage::Replace(byte) => bytes[place] = byte,
            Damage::Insert(byte) => bytes.insert(place, byte),
            Damage::Remove(len) => {
                bytes.drain(place..bytes.len().min(place + len));
            }
            Damage::Repeat(len) => {
                let end = bytes.len().min(place + len);
                bytes.splice(place..place, bytes[place..end].to_vec());
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// Whether the claimed authors signed all content of `value`.
///
/// A signature does not cover the session id, so a log may have another id whose agent has the
/// same signer.
fn is_authentic(value: &CoValue, original: &CoValue) -> bool {
    value.sessions().all(|log| {
        original.sessions().any(|original| {
            same_signer(original.session().owner(), log.session().owner())
                && original.transactions().starts_with(log.transactions())
        })
    })
}

fn same_signer(one: &Owner, two: &Owner) -> bool {
    match (one, two) {
        (Owner::Agent(one), Owner::Agent(two)) => one.signer() == two.signer(),
        _ => one == two,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_forged_is_taken(
        name in prop::sample::select(["account", "group", "comap", "costream", "deleted"].as_slice()),
        damages in prop::collection::vec((any::<prop::sample::Index>(), damage()), 1..4),
        has_some in any::<bool>(),
    ) {
        thread_local! {
            static LOADED: Loaded = Loaded::all();
        }
        LOADED.with(|loaded| {
            let original = loaded.get(vectors::messages(name)[0].id).unwrap();
            let file = vectors::file(&format!("{name}.jsonl"));
            let bytes = damaged(file.trim_ascii_end().to_vec(), damages);
            let frame = json::decode_frame(&bytes.into(), &Limits::default());
            for message in frame.into_iter().flat_map(|frame| frame.messages) {
                let Message::Content(content) = message else { continue };
                if has_some {
                    let mut value = original.clone();
                    let _ = value.ingest(&content, loaded);
                    prop_assert!(is_authentic(&value, original));
                    prop_assert!(value.sessions().len() >= original.sessions().len());
                } else if let Ok((value, _)) = CoValue::from_content(&content, loaded) {
                    prop_assert_eq!(value.id(), original.id());
                    prop_assert!(is_authentic(&value, original));
                }
            }
            Ok(())
        })?;
    }
}
