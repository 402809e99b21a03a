//! JSON strings: decoding escapes, and writing strings as JavaScript does.

use std::borrow::Cow;
use std::cmp::Ordering;

/// A well-formed JSON string in its notation, without quotes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawString<'a> {
    /// The text between the quotes.
    pub(crate) raw: &'a str,
    /// Whether it has escape sequences.
    pub(crate) escaped: bool,
}

/// A part of a string: text without escapes, or one escape sequence.
enum Piece<'a> {
    Plain(&'a str),
    Char(char),
    /// Half of a surrogate pair, which is possible in JavaScript strings but not in Unicode text.
    LoneSurrogate(u16),
}

impl<'a> RawString<'a> {
    /// The decoded string, or `None` if it has a lone surrogate.
    pub(crate) fn decode(self) -> Option<Cow<'a, str>> {
        if !self.escaped {
            return Some(Cow::Borrowed(self.raw));
        }
        let mut text = String::with_capacity(self.raw.len());
        for piece in self.pieces() {
            match piece {
                Piece::Plain(plain) => text.push_str(plain),
                Piece::Char(char) => text.push(char),
                Piece::LoneSurrogate(_) => return None,
            }
        }
        Some(Cow::Owned(text))
    }

    /// The decoded string, with U+FFFD for lone surrogates: for logs, and for JavaScript's encoding
    /// to UTF-8.
    pub(crate) fn decode_lossy(self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut text = String::with_capacity(self.raw.len());
        for piece in self.pieces() {
            match piece {
                Piece::Plain(plain) => text.push_str(plain),
                Piece::Char(char) => text.push(char),
                Piece::LoneSurrogate(_) => text.push(char::REPLACEMENT_CHARACTER),
            }
        }
        Cow::Owned(text)
    }

    /// Whether `JSON.stringify` writes the string in this notation.
    pub(crate) fn is_canonical(self) -> bool {
        if !self.escaped {
            return true;
        }
        let mut canonical = String::with_capacity(self.raw.len());
        self.write_canonical(&mut canonical);
        canonical == self.raw
    }

    /// Appends the string as `JSON.stringify` writes it, without quotes.
    pub(crate) fn write_canonical(self, out: &mut String) {
        if !self.escaped {
            out.push_str(self.raw);
            return;
        }
        for piece in self.pieces() {
            match piece {
                Piece::Plain(plain) => out.push_str(plain),
                Piece::Char(char) => escape_char(char, out),
                Piece::LoneSurrogate(unit) => escape_unit(unit, out),
            }
        }
    }

    /// The order of JavaScript strings: by UTF-16 code units.
    pub(crate) fn cmp_utf16(self, other: Self) -> Ordering {
        // In ASCII texts, bytes and code units have the same order.
        if !self.escaped && !other.escaped && self.raw.is_ascii() && other.raw.is_ascii() {
            self.raw.cmp(other.raw)
        } else {
            self.utf16().cmp(other.utf16())
        }
    }

    fn utf16(self) -> impl Iterator<Item = u16> + 'a {
        self.pieces().flat_map(|piece| {
            let (plain, char, unit) = match piece {
                Piece::Plain(plain) => (plain, None, None),
                Piece::Char(char) => ("", Some(char), None),
                Piece::LoneSurrogate(unit) => ("", None, Some(unit)),
            };
            let char = char.into_iter().flat_map(|char| {
                let mut units = [0; 2];
                let len = char.encode_utf16(&mut units).len();
                units.into_iter().take(len)
            });
            plain.encode_utf16().chain(char).chain(unit)
        })
    }

    fn pieces(self) -> Pieces<'a> {
        Pieces { rest: self.raw }
    }
}

/// Appends `text` as `JSON.stringify` writes it, without quotes.
pub(crate) fn escape(text: &str, out: &mut String) {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte < 0x20 || byte == b'"' || byte == b'\\' {
            out.push_str(text.get(plain..at).unwrap_or_default());
            escape_char(char::from(byte), out);
            plain = at + 1;
        }
    }
    out.push_str(text.get(plain..).unwrap_or_default());
}

fn escape_char(char: char, out: &mut String) {
    match char {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\u{c}' => out.push_str("\\f"),
        '\r' => out.push_str("\\r"),
        control @ '\0'..'\x20' => escape_unit(control as u16, out),
        other => out.push(other),
    }
}

fn escape_unit(unit: u16, out: &mut String) {
    out.push_str("\\u");
    for shift in [12, 8, 4, 0] {
        let digit = u32::from(unit >> shift) & 0xf;
        out.push(char::from_digit(digit, 16).expect("four bits are a hexadecimal digit"));
    }
}

struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let Some(at) = memchr::memchr(b'\\', self.rest.as_bytes()) else {
            let plain = std::mem::take(&mut self.rest);
            return (!plain.is_empty()).then_some(Piece::Plain(plain));
        };
        if at > 0 {
            let (plain, rest) = self.rest.split_at(at);
            self.rest = rest;
            return Some(Piece::Plain(plain));
        }
        let (unit, rest) = read_escape(self.rest)?;
        self.rest = rest;
        if let Some(char) = char::from_u32(u32::from(unit)) {
            return Some(Piece::Char(char));
        }
        if let Some((low, rest)) = read_escape(rest)
            && let Some(Ok(char)) = char::decode_utf16([unit, low]).next()
        {
            self.rest = rest;
            return Some(Piece::Char(char));
        }
        Some(Piece::LoneSurrogate(unit))
    }
}

/// The code unit of the escape sequence at the start of the text, and the rest of the text.
fn read_escape(text: &str) -> Option<(u16, &str)> {
    let escape = text.strip_prefix('\\')?;
    let kind = escape.chars().next()?;
    let rest = escape.get(1..)?;
    let unit = match kind {
        '"' | '\\' | '/' => kind as u16,
        'b' => 0x8,
        't' => 0x9,
        'n' => 0xa,
        'f' => 0xc,
        'r' => 0xd,
        'u' => {
            let (digits, rest) = rest.split_at_checked(4)?;
            return Some((u16::from_str_radix(digits, 16).ok()?, rest));
        }
        _ => return None,
    };
    Some((unit, rest))
}

/// Appends `text` as `JSON.stringify` writes it, with quotes.
pub(crate) fn quote(text: &str, out: &mut String) {
    out.push('"');
    escape(text, out);
    out.push('"');
}
