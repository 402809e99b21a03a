//! Canonical JSON, beyond the recorded vectors.

use bytes::Bytes;
use downbeat_protocol::{DecodeError, Limits, json};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::Value;

use crate::arbitrary;

fn canonicalize(json: &str) -> Result<String, DecodeError> {
    let canonical =
        json::canonicalize(&Bytes::copy_from_slice(json.as_bytes()), &Limits::default())?;
    Ok(String::from_utf8(canonical.to_vec()).expect("canonical JSON is UTF-8"))
}

/// Values whose strings all have the usual escapes.
fn value() -> impl Strategy<Value = Value> {
    let text = arbitrary::text().prop_filter("not written raw", |text| {
        !text.starts_with("encrypted_U") && !text.starts_with("binary_U")
    });
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(arbitrary::text(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_canonical_stays_as_it_is(value in value()) {
        let canonical = canonicalize(&value.to_string()).unwrap();
        prop_assert_eq!(&canonicalize(&canonical).unwrap(), &canonical);
    }

    #[test]
    fn white_space_makes_no_difference(value in value()) {
        let spaced = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(canonicalize(&spaced).unwrap(), canonicalize(&value.to_string()).unwrap());
    }

    #[test]
    fn the_value_stays_the_same(value in value()) {
        let canonical: Value = serde_json::from_str(&canonicalize(&value.to_string()).unwrap()).unwrap();
        prop_assert!(same(&canonical, &value), "{canonical} {value}");
    }
}

/// Whether two values are equal in JavaScript, where all numbers are floating-point.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            // serde_json rounds some fractions. Numbers close to zero have few digits, so that one
            // step between them is a large part of the number.
            const SMALLEST_STEP: f64 = f64::MIN_POSITIVE * f64::EPSILON;
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            a.to_bits() == b.to_bits() || (a - b).abs() <= (a.abs() * 1e-15).max(SMALLEST_STEP)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn a_number_close_to_zero_is_the_same_within_one_step() {
    let value: Value = serde_json::from_str("[2.25865091785756e-309]").unwrap();
    let canonical = canonicalize(&value.to_string()).unwrap();
    assert!(same(&serde_json::from_str(&canonical).unwrap(), &value), "{canonical} {value}");
    assert!(!same(&Value::from(1.0), &Value::from(1.000_000_1)));
}

#[test]
fn a_canonical_text_is_not_copied() {
    let json = Bytes::from_static(br#" {"a":[1,"\n",null],"b":{}}"#);
    let canonical = json.slice(1..);
    assert_eq!(
        json::canonicalize(&canonical, &Limits::default()).unwrap().as_ptr(),
        canonical.as_ptr()
    );
    let trimmed = json::canonicalize(&json, &Limits::default()).unwrap();
    assert_eq!(trimmed, canonical);
    assert_eq!(trimmed.as_ptr(), canonical.as_ptr(), "space around it is cut off");
}

#[test]
fn of_repeated_members_the_last_stays() {
    for (json, expected) in [
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"a":1,"\u0061":2,"b":3}"#, r#"{"a":2,"b":3}"#),
        (r#"{"b":1,"a":1,"b":2,"a":2,"b":3}"#, r#"{"a":2,"b":3}"#),
        (r#"{"a":{"a":1,"a":[]}}"#, r#"{"a":{"a":[]}}"#),
    ] {
        assert_eq!(canonicalize(json).as_deref(), Ok(expected));
    }
}

#[test]
fn what_json_parse_refuses_is_refused_with_its_place() {
    for (json, at) in [
        ("", 0),
        (" ", 1),
        ("{", 1),
        ("[1,]", 3),
        ("{\"a\":1,}", 7),
        ("{a:1}", 1),
        ("{\"a\" 1}", 5),
        ("[1 2]", 3),
        ("01", 1),
        ("1.", 2),
        (".5", 0),
        ("+1", 0),
        ("-", 1),
        ("1e", 2),
        ("1e+", 3),
        ("0x10", 1),
        ("NaN", 0),
        ("nul", 0),
        ("True", 0),
        ("'a'", 0),
        ("\"a", 2),
        ("\"\\x\"", 1),
        ("\"\\u12g4\"", 1),
        ("\"\\u12", 1),
        ("\"\\u123", 1),
        ("\"a\tb\"", 2),
        ("\"a\nb\"", 2),
        ("1 1", 2),
        ("[]]", 2),
        ("[}", 1),
        ("\u{feff}1", 0),
        ("\u{a0}1", 0),
    ] {
        let Err(DecodeError::Syntax { offset, .. }) = canonicalize(json) else {
            panic!("{json:?} is taken for JSON")
        };
        assert_eq!(offset, at, "{json:?}");
    }
    let not_utf8 = json::canonicalize(&Bytes::from_static(b"\"a\xff\""), &Limits::default());
    assert_eq!(not_utf8, Err(DecodeError::Syntax { reason: "not UTF-8", offset: 2 }));
}
