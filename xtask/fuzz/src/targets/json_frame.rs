//! JSON frames: decoding, the limits, and round trips.

use bytes::Bytes;
use downbeat_protocol::{DecodeError, Frame, Limit, Limits, json};

use super::frames::{check_tight, note_frame};
use super::{model, parts, round_trip};
use crate::features::Features;
use crate::memory;

pub(crate) fn run(input: &[u8]) -> Features {
    let mut features = Features::default();
    let input = Bytes::copy_from_slice(input);
    let limits = Limits::default();
    let result = memory::bounded(input.len(), || json::decode_frame(&input, &limits));
    match &result {
        Ok(frame) => {
            check_lines(&input, frame);
            note_frame(&mut features, frame);
            for message in &frame.messages {
                round_trip::check(message);
                parts::check_message(message);
            }
        }
        Err(error) => {
            features.error("frame", error);
            check_error(&input, error);
        }
    }
    let tight = |limits: &Limits| json::decode_frame(&input, limits);
    check_tight(tight, result.as_ref().ok());
    features
}

/// Checks that every line is JSON and is a message, a rejection or a ping.
fn check_lines(input: &[u8], frame: &Frame) {
    let text = str::from_utf8(input).expect("accepted input is UTF-8");
    if text.is_empty() {
        assert_eq!(*frame, Frame::default());
        return;
    }
    let lines: Vec<&str> = text.split('\n').collect();
    assert_eq!(frame.batched, lines.len() > 1);
    let told = frame.messages.len() + frame.rejected.len();
    assert!(told <= lines.len(), "more messages than lines");
    assert!(told == lines.len() || frame.ping.is_some(), "a line was lost");
    let over_a_limit = |error: &DecodeError| matches!(error, DecodeError::LimitExceeded { .. });
    if !frame.rejected.iter().any(over_a_limit) {
        for line in lines {
            assert!(model::is_json(line), "a line that is not JSON is accepted: {line:?}");
        }
    }
}

/// Checks that a refused frame is not JSON at the position of the error, or has too many messages.
fn check_error(input: &[u8], error: &DecodeError) {
    match error {
        DecodeError::Syntax { offset, .. } => {
            assert!(*offset <= input.len(), "the error is beyond the end");
            let Ok(text) = str::from_utf8(input) else { return };
            let start =
                text.get(..*offset).map_or(0, |before| before.rfind('\n').map_or(0, |at| at + 1));
            let line = text.get(start..).unwrap_or_default().split('\n').next().unwrap_or_default();
            assert!(!model::is_json(line), "JSON is refused: {error}");
        }
        DecodeError::LimitExceeded { limit: Limit::MessagesPerFrame, .. } => {}
        _ => panic!("one message makes the frame fail: {error}"),
    }
}
