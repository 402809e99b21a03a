//! Mutating inputs.

use std::ops::Range;

use crate::dictionary;
use crate::rng::Rng;

/// The length of the longest input, in bytes.
pub const MAX_INPUT_LEN: usize = 64 * 1024;

/// Depths of nested JSON: around the decoders' limit, and too deep for any stack.
const DEPTHS: &[usize] = &[1, 2, 60, 61, 62, 63, 64, 65, 127, 128, 129, 1_000, 30_000];

/// Applies one or several mutations. Some take parts from the input `other`.
pub(crate) fn mutate(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let changes = 1 << rng.below(5);
    for _ in 0..=rng.below(changes) {
        match rng.below(10) {
            0..4 if is_binary(input) => change_number(input, rng),
            0..4 => change_token(input, other, rng),
            4..6 => insert_word(input, rng),
            6..9 => change_bytes(input, rng),
            _ => splice(input, other, rng),
        }
        input.truncate(MAX_INPUT_LEN);
    }
}

/// Mutates bytes without regard to their meaning.
fn change_bytes(input: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.below(input.len());
    let range = rng.range(input.len(), 1 << 12);
    match rng.below(8) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = rng.byte();
            }
        }
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = byte.wrapping_add(if rng.once_in(2) { 1 } else { u8::MAX });
            }
        }
        3 => drop(input.drain(range)),
        4 => {
            // Sometimes repeated many times, so that counts and lengths grow.
            let times = if rng.once_in(8) { 1 << rng.below(9) } else { 1 };
            let piece = input.get(range.clone()).unwrap_or_default().repeat(times);
            insert(input, range.end, &piece);
        }
        5 => {
            let piece: Vec<u8> = (0..=rng.below(8)).map(|_| rng.byte()).collect();
            insert(input, at, &piece);
        }
        6 => input.truncate(at),
        _ => {
            let piece = input.get(range).unwrap_or_default().to_vec();
            let end = (at + piece.len()).min(input.len());
            input.splice(at..end, piece);
        }
    }
}

/// Inserts a word from the dictionary, or overwrites bytes with it.
fn insert_word(input: &mut Vec<u8>, rng: &mut Rng) {
    let word = match rng.below(4) {
        0 => rng.pick(dictionary::JSON).map(|word| word.as_bytes()),
        1 => rng.pick(dictionary::NUMBERS).map(|word| word.as_bytes()),
        2 => rng.pick(dictionary::TEXT).map(|word| word.as_bytes()),
        _ => rng.pick(dictionary::BYTES).copied(),
    };
    let word = word.unwrap_or_default();
    let at = rng.below(input.len() + 1);
    let end = if rng.once_in(2) { at } else { (at + word.len()).min(input.len()) };
    input.splice(at..end, word.iter().copied());
}

/// Whether an input does not start like a text.
fn is_binary(input: &[u8]) -> bool {
    input.first().is_some_and(|&byte| byte < b'\t')
}

/// Overwrites a bincode number, if there is one, with another.
fn change_number(input: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.below(input.len());
    let width = match input.get(at) {
        Some(251) => 3,
        Some(252) => 5,
        Some(253) => 9,
        _ => 1,
    };
    // A power of two, or a neighbour.
    let edge = 1_u64 << rng.below(64);
    let number = match rng.below(3) {
        0 => edge - 1,
        1 => edge,
        _ => edge | (rng.bits() & (edge - 1)),
    };
    let [low, ..] = number.to_le_bytes();
    let (marker, len) = match number {
        0..=250 => (low, 0),
        251..=0xffff => (251, 2),
        0x1_0000..=0xffff_ffff => (252, 4),
        _ => (253, 8),
    };
    let mut written = vec![marker];
    written.extend(number.to_le_bytes().into_iter().take(len));
    replace(input, at..at + width, &written);
}

/// Joins the beginning of one input and the end of the other, or both inputs as separate lines.
fn splice(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    if rng.once_in(3) {
        input.push(b'\n');
        input.extend_from_slice(other);
    } else {
        input.truncate(rng.below(input.len() + 1));
        input.extend_from_slice(other.get(rng.below(other.len())..).unwrap_or_default());
    }
}

/// Mutates a JSON value of the input, if there is one.
fn change_token(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let values = values(input);
    let Some(value) = rng.pick(&values).cloned() else { return };
    let text = input.get(value.clone()).unwrap_or_default().to_vec();
    match rng.below(12) {
        0 => drop(input.drain(value)),
        1 => {
            insert(input, value.end, &text);
            insert(input, value.end, b",");
        }
        2 => {
            // Move or copy the value together with the name before it and a comma.
            let start = values.iter().rev().find(|before| before.end < value.start);
            let start = start.map_or(value.start, |name| name.start);
            let mut member = input.get(start..value.end).unwrap_or_default().to_vec();
            member.push(b',');
            if rng.once_in(2) {
                let end = (value.end + 1).min(input.len());
                input.drain(start..end);
            }
            let at = rng.pick(&values).map_or(0, |value| value.start).min(input.len());
            insert(input, at, &member);
        }
        3 => {
            let from = self::values(other);
            let replacement = rng.pick(&from).and_then(|range| other.get(range.clone()));
            replace(input, value, replacement.unwrap_or_default());
        }
        4 => {
            if let Some(target) = rng.pick(&values).cloned() {
                replace(input, target, &text);
            }
        }
        5 | 6 => replace(input, value, rng.pick(dictionary::NUMBERS).unwrap_or(&"0").as_bytes()),
        7 => replace(input, value, rng.pick(dictionary::JSON).unwrap_or(&"{}").as_bytes()),
        8 => {
            let depth = rng.pick(DEPTHS).copied().unwrap_or_default();
            let (open, close) = if rng.once_in(2) { ("[", "]") } else { ("{\"a\":", "}") };
            insert(input, value.end, close.repeat(depth).as_bytes());
            insert(input, value.start, open.repeat(depth).as_bytes());
        }
        9 => {
            // Write one character of a string as an escape.
            let inside = value.start + 1..value.end.saturating_sub(1).max(value.start + 1);
            let at = inside.start + rng.below(inside.len());
            if let Some(&byte) = input.get(at)
                && byte.is_ascii_alphanumeric()
            {
                replace(input, at..at + 1, format!("\\u{byte:04x}").as_bytes());
            }
        }
        10 => {
            let space = rng.pick(&[" ", "\t", "\n", "\r", "\u{b}", "\u{a0}"]).unwrap_or(&" ");
            let at = if rng.once_in(2) { value.start } else { value.end };
            insert(input, at, space.as_bytes());
        }
        _ => {
            let at = value.start + 1 + rng.below(text.len().saturating_sub(1));
            let text = rng.pick(dictionary::TEXT).unwrap_or(&"\\").as_bytes();
            insert(input, at.min(input.len()), text);
        }
    }
}

/// The positions of the values and names in a text, up to its first syntax error.
fn values(text: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut open = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'{' | b'[' => {
                open.push(found.len());
                found.push(start..at);
            }
            b'}' | b']' => {
                if let Some(container) = open.pop().and_then(|index| found.get_mut(index)) {
                    container.end = at;
                }
            }
            b'"' => {
                while let Some(&inner) = text.get(at) {
                    at += if inner == b'\\' { 2 } else { 1 };
                    if inner == b'"' {
                        break;
                    }
                }
                at = at.min(text.len());
                found.push(start..at);
            }
            b'-' | b'0'..=b'9' | b'a'..=b'z' => {
                let rest = text.get(at..).unwrap_or_default();
                let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                at += rest.iter().take_while(is_part).count();
                found.push(start..at);
            }
            _ => {}
        }
    }
    found
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    replace(input, at..at, piece);
}

fn replace(input: &mut Vec<u8>, range: Range<usize>, piece: &[u8]) {
    let start = range.start.min(input.len());
    let end = range.end.clamp(start, input.len());
    input.splice(start..end, piece.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_with_everything_inside() {
        let text = br#"{"a\"":[1.5e3,null]}"#;
        let found: Vec<_> =
            values(text).into_iter().map(|range| str::from_utf8(&text[range]).unwrap()).collect();
        assert_eq!(found, [r#"{"a\"":[1.5e3,null]}"#, r#""a\"""#, "[1.5e3,null]", "1.5e3", "null"]);
    }

    #[test]
    fn any_input_can_be_changed() {
        for case in 0..20_000 {
            let mut rng = Rng::of_case(3, case);
            let inputs: [&[u8]; 5] = [b"", b"\"", b"[[", b"{\"a\":1}", b"\xff\\"];
            let mut input = inputs[rng.below(5)].to_vec();
            mutate(&mut input, inputs[rng.below(5)], &mut rng);
            assert!(input.len() <= MAX_INPUT_LEN);
        }
    }
}
