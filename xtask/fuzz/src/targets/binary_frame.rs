//! Binary frames: decoding, the limits, and round trips.

use bytes::Bytes;
use downbeat_protocol::{Limits, binary};

use super::frames::{check_tight, note_frame};
use super::{parts, round_trip};
use crate::features::Features;
use crate::memory;
use crate::rng::Rng;

pub(crate) fn run(input: &[u8]) -> Features {
    let mut features = Features::default();
    let input = Bytes::copy_from_slice(input);
    let limits = Limits::default();
    let result = memory::bounded(input.len(), || binary::decode_frame(&input, &limits));
    match &result {
        Ok(frame) => {
            let has_content = !frame.messages.is_empty() || !frame.rejected.is_empty();
            assert!(input.first().is_none_or(|&version| version == binary::VERSION));
            assert!(!has_content || input.len() > 1, "messages without input");
            note_frame(&mut features, frame);
            for message in &frame.messages {
                round_trip::check(message);
                parts::check_message(message);
            }
        }
        Err(error) => features.error("frame", error),
    }
    let tight = |limits: &Limits| binary::decode_frame(&input, limits);
    check_tight(tight, result.as_ref().ok());
    features
}

/// Corrects the length of the first message. Otherwise decoding would refuse almost every change of
/// length at once.
pub(crate) fn fix_length(input: &mut Vec<u8>, rng: &mut Rng) {
    if rng.once_in(3) {
        return;
    }
    let Some((&version, rest)) = input.split_first() else { return };
    let width = match rest.first() {
        Some(0..=250) => 1,
        Some(251) => 3,
        Some(252) => 5,
        Some(253) => 9,
        _ => return,
    };
    let body = rest.get(width..).unwrap_or_default();
    let mut fixed = vec![version];
    match u16::try_from(body.len()) {
        Ok(len @ 0..=250) => fixed.push(len.to_le_bytes()[0]),
        Ok(len) => {
            fixed.push(251);
            fixed.extend_from_slice(&len.to_le_bytes());
        }
        Err(_) => return,
    }
    fixed.extend_from_slice(body);
    *input = fixed;
}
