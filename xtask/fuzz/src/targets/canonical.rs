//! Canonical JSON: the model agrees, and canonical texts stay unchanged.

use bytes::Bytes;
use downbeat_protocol::{DecodeError, Limit, Limits, json};

use super::model;
use crate::features::Features;
use crate::memory;

pub(crate) fn run(input: &[u8]) -> Features {
    let mut features = Features::default();
    let input = Bytes::copy_from_slice(input);
    let limits = Limits::default();
    let result = memory::bounded(input.len(), || json::canonicalize(&input, &limits));
    let text = str::from_utf8(&input).ok();
    let is_json = text.is_some_and(model::is_json);
    let canonical = match result {
        Ok(canonical) => canonical,
        Err(error) => {
            features.error("refused", &error);
            let is_too_deep =
                matches!(error, DecodeError::LimitExceeded { limit: Limit::Depth, .. });
            assert!(!is_json || is_too_deep, "JSON is refused: {error}");
            return features;
        }
    };
    let text = text.expect("accepted input is UTF-8");
    assert!(is_json, "a text that is not JSON is accepted");
    let written = str::from_utf8(&canonical).expect("the canonical form is UTF-8");
    if let Some(expected) = model::canonical(text) {
        assert_eq!(written, expected, "the canonical form differs from the model");
    } else {
        features.note("half surrogate pairs");
    }
    if written == text {
        assert_eq!(canonical.as_ptr(), input.as_ptr(), "canonical input is copied");
    }
    let again = json::canonicalize(&canonical, &limits);
    if model::may_be_no_json(written) {
        features.note(("ciphertext", again.is_ok(), again.as_ref() == Ok(&canonical)));
    } else {
        assert_eq!(again, Ok(canonical.clone()), "canonical JSON changes when canonicalized");
    }
    note_shape(&mut features, text, written);
    features
}

fn note_shape(features: &mut Features, text: &str, canonical: &str) {
    features.note(("unchanged", text == canonical, text.chars().next()));
    features.amount("length", text.len());
    features.amount("shrunk", text.len().saturating_sub(canonical.len()));
    features.amount("grown", canonical.len().saturating_sub(text.len()));
    // Adjacent parts of the input, which show the nesting.
    let marks = |byte: &u8| b"{}[]\",:\\-.eE0ntf \n".contains(byte) || *byte >= 0x80;
    let mut last = 0;
    for byte in text.bytes().filter(marks).take(2_000) {
        let kind = if byte >= 0x80 { byte & 0xf0 } else { byte };
        features.note(("pair", last, kind));
        last = kind;
    }
}
