//! A scanner of JSON text that is as strict as `JSON.parse`.

use memchr::memchr2;

use crate::error::{DecodeError, Limit};
use crate::json::string::RawString;

/// Scans one JSON text from left to right.
///
/// After a *fatal* error (not JSON, or a limit exceeded), scanning cannot continue. After any other
/// error, [`Scanner::attempt`] continues behind the value with the error.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    pos: usize,
    depth: usize,
    max_depth: usize,
    /// Whether the whole text is ASCII.
    is_ascii: bool,
    /// Whether the text has control characters. If not, strings need not be checked for them.
    has_controls: bool,
    /// Whether white space has been skipped.
    saw_space: bool,
}

/// A part of a value, for [`Scanner::walk`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    /// The start of an object.
    Object,
    /// The start of an array.
    Array,
    /// The name of the next member of an object.
    Name(RawString<'a>),
    /// A string value.
    String(RawString<'a>),
    /// A number, in its notation.
    Number(&'a str),
    /// `null`, `true` or `false`.
    Literal(&'static str),
    /// The end of the innermost object or array.
    End,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str, max_depth: usize) -> Self {
        // Two passes without branches, which compile to vector code. After them, strings need to be
        // searched for quotes and backslashes only.
        let is_ascii = text.is_ascii();
        let has_controls = text.bytes().fold(u8::MAX, u8::min) < 0x20;
        Self { text, pos: 0, depth: 0, max_depth, is_ascii, has_controls, saw_space: false }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    pub(crate) fn is_ascii(&self) -> bool {
        self.is_ascii
    }

    /// Whether white space has been skipped.
    pub(crate) fn saw_space(&self) -> bool {
        self.saw_space
    }

    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    /// Moves to a position behind a value that the caller has scanned itself.
    pub(crate) fn jump(&mut self, pos: usize) {
        self.pos = pos;
    }

    /// Whether the next `len` bytes have no control characters.
    pub(crate) fn is_free_of_controls(&self, len: usize) -> bool {
        let next = self.text.as_bytes().get(self.pos..self.pos + len).unwrap_or_default();
        !self.has_controls || next.iter().all(|&byte| byte >= 0x20)
    }

    /// The text from `start` to the current position.
    pub(crate) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.pos).unwrap_or_default()
    }

    /// Skips white space, and returns the next byte.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        let mut byte = bytes.get(self.pos).copied();
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = byte {
            self.saw_space = true;
            self.pos += 1;
            byte = bytes.get(self.pos).copied();
        }
        byte
    }

    /// Skips white space and `byte`.
    pub(crate) fn expect(&mut self, byte: u8, reason: &'static str) -> Result<(), DecodeError> {
        if self.peek() != Some(byte) {
            return Err(self.error(reason));
        }
        self.pos += 1;
        Ok(())
    }

    /// Checks that only white space follows.
    pub(crate) fn end(&mut self) -> Result<(), DecodeError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("unexpected text after the value")),
        }
    }

    pub(crate) fn error(&self, reason: &'static str) -> DecodeError {
        DecodeError::Syntax { reason, offset: self.pos }
    }

    /// Reads a value with `read`. An error that is not fatal becomes the inner result, and the
    /// scanner continues behind the value.
    pub(crate) fn attempt<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Result<T, DecodeError>, DecodeError> {
        let (pos, depth) = (self.pos, self.depth);
        match read(self) {
            Err(error) if !is_fatal(&error) => {
                (self.pos, self.depth) = (pos, depth);
                self.skip()?;
                Ok(Err(error))
            }
            Err(error) => Err(error),
            Ok(value) => Ok(Ok(value)),
        }
    }

    /// Scans an object. `member` receives each name, and must scan the value.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, RawString<'a>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.open(b'{')?;
        if self.peek() != Some(b'}') {
            loop {
                let name = self.name()?;
                member(self, name)?;
                if self.peek() != Some(b',') {
                    break;
                }
                self.pos += 1;
            }
        }
        self.close(b'}')
    }

    /// Scans an array. `element` must scan each element.
    pub(crate) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.open(b'[')?;
        if self.peek() != Some(b']') {
            loop {
                element(self)?;
                if self.peek() != Some(b',') {
                    break;
                }
                self.pos += 1;
            }
        }
        self.close(b']')
    }

    /// Skips a value of any type.
    pub(crate) fn skip(&mut self) -> Result<(), DecodeError> {
        self.walk(|_| Ok(()))
    }

    /// Skips a value, and calls `visit` with each of its parts.
    ///
    /// Does not recurse, so that any depth is possible.
    pub(crate) fn walk(
        &mut self,
        mut visit: impl FnMut(Part<'a>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        // For each open container, whether it is an object; the innermost is last.
        let mut objects: Vec<bool> = Vec::new();
        loop {
            let next = self.peek();
            if let Some(bracket @ (b'{' | b'[')) = next {
                let is_object = bracket == b'{';
                self.open(bracket)?;
                visit(if is_object { Part::Object } else { Part::Array })?;
                if self.peek() != Some(closing(is_object)) {
                    objects.push(is_object);
                    if is_object {
                        visit(Part::Name(self.name()?))?;
                    }
                    continue;
                }
                self.close(closing(is_object))?;
                visit(Part::End)?;
            } else {
                visit(self.scalar()?)?;
            }
            // The value is complete. Close the containers that end with it.
            loop {
                let Some(&is_object) = objects.last() else {
                    return Ok(());
                };
                if self.peek() == Some(b',') {
                    self.pos += 1;
                    if is_object {
                        visit(Part::Name(self.name()?))?;
                    }
                    break;
                }
                self.close(closing(is_object))?;
                visit(Part::End)?;
                objects.pop();
            }
        }
    }

    /// Skips a value, and returns its text.
    pub(crate) fn skipped(&mut self) -> Result<&'a str, DecodeError> {
        self.peek();
        let start = self.pos;
        self.skip()?;
        Ok(self.since(start))
    }

    /// Reads a string.
    pub(crate) fn string(&mut self) -> Result<RawString<'a>, DecodeError> {
        self.expect(b'"', "expected a string")?;
        let bytes = self.text.as_bytes();
        let start = self.pos;
        let mut escaped = false;
        loop {
            let rest = bytes.get(self.pos..).unwrap_or_default();
            let Some(found) = find_special(rest, escaped) else {
                self.pos = bytes.len();
                return Err(self.error("a string does not end"));
            };
            self.pos += found;
            if rest.get(found) == Some(&b'"') {
                break;
            }
            escaped = true;
            self.pos += self.escape_len()?;
        }
        let raw = self.since(start);
        if self.has_controls
            && let Some(at) = raw.bytes().position(|byte| byte < 0x20)
        {
            self.pos = start + at;
            return Err(self.error("a control character in a string"));
        }
        self.pos += 1;
        Ok(RawString { raw, escaped })
    }

    /// Reads a number, and returns its notation.
    pub(crate) fn number(&mut self) -> Result<&'a str, DecodeError> {
        self.peek();
        let start = self.pos;
        if self.next_is(b'-') {
            self.pos += 1;
        }
        if self.next_is(b'0') {
            self.pos += 1;
        } else {
            self.digits()?;
        }
        if self.next_is(b'.') {
            self.pos += 1;
            self.digits()?;
        }
        if self.next_is(b'e') || self.next_is(b'E') {
            self.pos += 1;
            if self.next_is(b'+') || self.next_is(b'-') {
                self.pos += 1;
            }
            self.digits()?;
        }
        Ok(self.since(start))
    }

    /// Skips `literal` if it is next. Returns whether it was.
    pub(crate) fn literal(&mut self, literal: &str) -> bool {
        self.peek();
        let here = self.text.as_bytes().get(self.pos..).unwrap_or_default();
        let found = here.starts_with(literal.as_bytes());
        if found {
            self.pos += literal.len();
        }
        found
    }

    fn scalar(&mut self) -> Result<Part<'a>, DecodeError> {
        match self.peek() {
            Some(b'"') => self.string().map(Part::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Part::Number),
            _ => ["null", "true", "false"]
                .into_iter()
                .find(|literal| self.literal(literal))
                .map(Part::Literal)
                .ok_or_else(|| self.error("expected a value")),
        }
    }

    /// A member's name and the colon after it.
    fn name(&mut self) -> Result<RawString<'a>, DecodeError> {
        let name = self.string()?;
        self.expect(b':', "expected a colon")?;
        Ok(name)
    }

    fn open(&mut self, bracket: u8) -> Result<(), DecodeError> {
        self.expect(bracket, "expected an object or an array")?;
        if self.depth >= self.max_depth {
            return Err(DecodeError::limit(Limit::Depth, self.max_depth));
        }
        self.depth += 1;
        Ok(())
    }

    fn close(&mut self, bracket: u8) -> Result<(), DecodeError> {
        self.expect(bracket, "expected a comma or a closing bracket")?;
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    /// The length of the next escape sequence, in bytes.
    fn escape_len(&self) -> Result<usize, DecodeError> {
        let escape = self.text.as_bytes().get(self.pos + 1..).unwrap_or_default();
        match escape {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Ok(2),
            [b'u', digits @ ..]
                if digits.len() >= 4 && digits.iter().take(4).all(u8::is_ascii_hexdigit) =>
            {
                Ok(6)
            }
            _ => Err(self.error("a bad escape sequence")),
        }
    }

    fn next_is(&self, byte: u8) -> bool {
        self.text.as_bytes().get(self.pos) == Some(&byte)
    }

    fn digits(&mut self) -> Result<(), DecodeError> {
        let rest = self.text.as_bytes().get(self.pos..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            return Err(self.error("expected a digit"));
        }
        self.pos += count;
        Ok(())
    }
}

/// The position of the next quote or backslash in the rest of a string. After an escape sequence
/// the next one is often near, as in JSON within JSON, where a vectorized search is slower.
pub(crate) fn find_special(rest: &[u8], behind_escape: bool) -> Option<usize> {
    /// The number of bytes to search one by one.
    const NEAR: usize = 16;
    if behind_escape {
        let near = rest.iter().take(NEAR).position(|&byte| byte == b'"' || byte == b'\\');
        if near.is_some() {
            return near;
        }
    }
    memchr2(b'"', b'\\', rest)
}

fn closing(is_object: bool) -> u8 {
    if is_object { b'}' } else { b']' }
}

/// Whether scanning cannot continue after the error.
pub(crate) fn is_fatal(error: &DecodeError) -> bool {
    matches!(error, DecodeError::Syntax { .. } | DecodeError::LimitExceeded { .. })
}
