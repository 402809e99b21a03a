//! Random JSON texts, in every notation that JSON allows.

use std::fmt::Write as _;

use crate::random::Random;

/// Numbers near values where parsers and printers differ.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "0.0",
    "-0.0",
    "0e5",
    "1",
    "-1",
    "0.1",
    "1e21",
    "1e20",
    "123456789012345680000",
    "1e-6",
    "1e-7",
    "1E-7",
    "0.000001",
    "0.0000001",
    "9007199254740991",
    "9007199254740992",
    "9007199254740993",
    "-9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1.7976931348623157e308",
    "1.7976931348623159e308",
    "1e309",
    "-1e400",
    "5e-324",
    "2.4e-324",
    "2.5e-324",
    "2.2250738585072011e-308",
    "4.35",
    "0.3",
    "1e23",
    "1e+2",
    "12e0",
    "100e-2",
    "0.10000000000000000555",
    "5.0e-1",
    "1700000000000",
];

/// Texts with a meaning in JSON or in the protocol.
const TEXTS: &[&str] = &[
    "",
    "a",
    "b",
    "B",
    "type",
    "meta",
    "toJSON",
    "__proto__",
    "constructor",
    "length",
    "0",
    "1",
    "10",
    "9",
    "encrypted_U",
    "binary_U",
    "encrypted_UAbC-_0=",
    "binary_Uxyz",
    "encrypted_",
    "é",
    "ü",
    "ß",
    "日本",
    "\u{ffff}",
    "\u{e000}",
    "\u{10000}",
    "😀",
    "\u{10ffff}",
    "\u{7f}",
    "\u{2028}",
    "\u{2029}",
    "\u{feff}",
    "\u{a0}",
    "a\u{301}",
    "</script>",
    "co_z1",
    "z",
];

/// Escapes of every kind.
const ESCAPES: &[&str] = &[
    "\\\"",
    "\\\\",
    "\\/",
    "\\b",
    "\\f",
    "\\n",
    "\\r",
    "\\t",
    "\\u0000",
    "\\u001f",
    "\\u001F",
    "\\u0022",
    "\\u005c",
    "\\u002f",
    "\\u0041",
    "\\u00e9",
    "\\u00E9",
    "\\u007f",
    "\\u2028",
    "\\uFFFF",
    "\\ud83d\\ude00",
    "\\uD83D\\uDE00",
    "\\udbff\\udfff",
    "\\u000b",
    "\\u0008",
];

/// Lone surrogates, and surrogates in the wrong order.
const HALVES: &[&str] = &["\\ud800", "\\udfff", "\\uDC00", "\\ude00\\ud83d", "\\ud800\\u0041"];

/// The style of the texts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// The deepest nesting.
    pub(crate) depth: u32,
    /// Whether strings may have lone surrogates.
    pub(crate) halves: bool,
}

impl Style {
    /// All kinds of values, with a moderate depth.
    pub(crate) const WILD: Self = Self { depth: 6, halves: true };
    /// Texts without lone surrogates, which every language can represent.
    pub(crate) const TAME: Self = Self { depth: 4, halves: false };
}

/// Appends a random value.
pub(crate) fn value(random: &mut Random, style: Style, out: &mut String) {
    let kinds = if style.depth == 0 { 5 } else { 8 };
    match random.below(kinds) {
        0 => out.push_str(random.pick(&["true", "false", "null"])),
        1 | 2 => number(random, out),
        3 | 4 => string(random, style, out),
        5 => array(random, style, out),
        _ => object(random, style, out),
    }
}

/// Appends a random array.
pub(crate) fn array(random: &mut Random, style: Style, out: &mut String) {
    out.push('[');
    for index in 0..random.below(5) {
        separate(index, out);
        padded(random, out, |random, out| value(random, style.deeper(), out));
    }
    space(random, out);
    out.push(']');
}

/// Appends a random object; some names occur more than once.
pub(crate) fn object(random: &mut Random, style: Style, out: &mut String) {
    out.push('{');
    for index in 0..random.below(6) {
        separate(index, out);
        padded(random, out, |random, out| {
            string(random, style, out);
        });
        out.push(':');
        padded(random, out, |random, out| value(random, style.deeper(), out));
    }
    space(random, out);
    out.push('}');
}

/// An object with these members in random order. The values are JSON texts.
pub(crate) fn object_of(random: &mut Random, mut members: Vec<(String, String)>, out: &mut String) {
    for last in (1..members.len()).rev() {
        members.swap(last, random.index(last + 1));
    }
    out.push('{');
    for (index, (name, text)) in members.iter().enumerate() {
        separate(index as u64, out);
        let name = quoted(random, name);
        padded(random, out, |_, out| out.push_str(&name));
        out.push(':');
        padded(random, out, |_, out| out.push_str(text));
    }
    out.push('}');
}

/// Appends a random number.
pub(crate) fn number(random: &mut Random, out: &mut String) {
    let number = f64::from_bits(random.next());
    let _ = match random.below(6) {
        0 | 1 => write!(out, "{}", random.pick(NUMBERS)),
        2 if number.is_finite() => write!(out, "{number:e}"),
        3 if number.is_finite() => write!(out, "{number}"),
        4 => write!(out, "{}.{}", random.below(1000), random.below(1_000_000)),
        _ => {
            let bits = random.below(64);
            write!(out, "{}", random.next() >> bits)
        }
    };
}

/// Appends a random string.
pub(crate) fn string(random: &mut Random, style: Style, out: &mut String) {
    out.push('"');
    for _ in 0..random.below(4) {
        match random.below(10) {
            0..=5 => out.push_str(random.pick(TEXTS)),
            6..=8 => out.push_str(random.pick(ESCAPES)),
            _ if style.halves => out.push_str(random.pick(HALVES)),
            _ => out.extend(any_char(random)),
        }
    }
    out.push('"');
}

/// A text as a JSON string, with some unnecessary escapes.
pub(crate) fn quoted(random: &mut Random, text: &str) -> String {
    let one_in = if random.percent(10) { 3 } else { u64::MAX };
    let mut out = String::from("\"");
    for char in text.chars() {
        if needs_escape(char) || random.below(one_in) == 0 {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(char);
        }
    }
    out.push('"');
    out
}

/// Changes one character of a text, which makes most texts invalid.
pub(crate) fn damage(random: &mut Random, text: &mut String) {
    const STRAY: &[&str] =
        &["", "\"", "\\", "{", "}", "[", "]", ",", ":", " ", "\u{a0}", "\u{1}", "0", "-", ".", "e"];
    let mut at = random.index(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let end = text[at..].chars().next().map_or(at, |char| at + char.len_utf8());
    let end = if random.percent(50) { at } else { end };
    text.replace_range(at..end, random.pick(STRAY));
}

impl Style {
    fn deeper(self) -> Self {
        Self { depth: self.depth.saturating_sub(1), ..self }
    }
}

/// A random character that needs no escape.
fn any_char(random: &mut Random) -> Option<char> {
    let code = u32::try_from(random.below(0x11_0000)).ok()?;
    char::from_u32(code).filter(|char| !needs_escape(*char))
}

fn needs_escape(char: char) -> bool {
    char < ' ' || char == '"' || char == '\\'
}

fn separate(index: u64, out: &mut String) {
    if index > 0 {
        out.push(',');
    }
}

fn padded(random: &mut Random, out: &mut String, write: impl FnOnce(&mut Random, &mut String)) {
    space(random, out);
    write(random, out);
    space(random, out);
}

fn space(random: &mut Random, out: &mut String) {
    if random.percent(5) {
        out.push_str(random.pick(&[" ", "\n", "\t", "\r", " \n  "]));
    }
}
