//! Reading files of JSON lines: one message on each line.

use std::io::{self, BufRead, Read};

use bytes::Bytes;

use crate::error::DecodeError;
use crate::json::decode_frame;
use crate::limits::Limits;
use crate::message::Message;

/// Reads lines of JSON, with their numbers. Empty lines are skipped, but counted.
///
/// The iterator ends at the end of the input and after an error.
///
/// # Examples
///
/// ```
/// use downbeat_protocol::Limits;
/// use downbeat_protocol::json::Lines;
///
/// let file = &b"{\"action\":\"done\",\"id\":\"co_z1\"}\n\n{\"action\":\"done\"}\n"[..];
/// let limits = Limits::default();
/// let mut errors = Vec::new();
/// for line in Lines::new(file, limits.message_bytes) {
///     let line = line?;
///     if let Err(error) = line.message(&limits) {
///         errors.push(format!("line {}: {error}", line.number));
///     }
/// }
/// assert_eq!(errors, ["line 3: `id` is missing"]);
/// # Ok::<(), downbeat_protocol::json::LinesError>(())
/// ```
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    max_len: usize,
    number: u64,
    failed: bool,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The number of the line; the first has number 1.
    pub number: u64,
    /// The text, without the line feed.
    pub text: Bytes,
}

/// Why the next line cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinesError {
    /// Reading failed.
    #[error("cannot read line {line}")]
    Io {
        /// The number of the line.
        line: u64,
        /// The cause.
        source: io::Error,
    },
    /// The line is too long.
    #[error("line {line} is longer than {max_len} bytes")]
    TooLong {
        /// The number of the line.
        line: u64,
        /// The longest accepted line.
        max_len: usize,
    },
}

impl<R: BufRead> Lines<R> {
    /// Reads from `reader`. A line of more than `max_len` bytes is an error, so that a file
    /// without line feeds does not fill the memory.
    pub fn new(reader: R, max_len: usize) -> Self {
        Self { reader, max_len, number: 0, failed: false }
    }

    /// The number of the last line that was read, or 0 at the start.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line, without its line feed, or `None` at the end.
    fn read_line(&mut self) -> Result<Option<Bytes>, LinesError> {
        let (line, max_len) = (self.number + 1, self.max_len);
        let mut text = Vec::new();
        let limit = (max_len as u64).saturating_add(1);
        self.reader
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut text)
            .map_err(|source| LinesError::Io { line, source })?;
        if text.is_empty() {
            return Ok(None);
        }
        self.number = line;
        if text.last() == Some(&b'\n') {
            text.pop();
        } else if text.len() > max_len {
            return Err(LinesError::TooLong { line, max_len });
        }
        Ok(Some(text.into()))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Line, LinesError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            match self.read_line() {
                Ok(Some(text)) if text.is_empty() => {}
                Ok(Some(text)) => return Some(Ok(Line { number: self.number, text })),
                Ok(None) => return None,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl Line {
    /// Decodes the message on this line. Its transactions are slices of [`text`](Self::text).
    pub fn message(&self, limits: &Limits) -> Result<Message, DecodeError> {
        decode_frame(&self.text, limits)?.into_message()
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    const DONE: &str = r#"{"action":"done","id":"co_z1"}"#;

    fn read(text: &str, max_len: usize) -> Vec<Result<Line, String>> {
        // A small buffer, so that lines are put together from several reads.
        let lines = Lines::new(BufReader::with_capacity(3, text.as_bytes()), max_len);
        lines.map(|line| line.map_err(|error| error.to_string())).collect()
    }

    fn line(number: u64, text: &'static str) -> Line {
        Line { number, text: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn empty_lines_are_skipped_and_counted() {
        assert_eq!(read("a\n\n\nb", 9), [Ok(line(1, "a")), Ok(line(4, "b"))]);
        assert_eq!(read("a\n", 9), [Ok(line(1, "a"))]);
        assert_eq!(read("", 9), []);
        assert_eq!(read("\n\n", 9), []);
    }

    #[test]
    fn a_line_may_have_the_maximum_length_and_no_more() {
        assert_eq!(read("abc\nd", 3), [Ok(line(1, "abc")), Ok(line(2, "d"))]);
        assert_eq!(read("abc", 3), [Ok(line(1, "abc"))]);
        let error = Err("line 2 is longer than 3 bytes".to_owned());
        assert_eq!(read("a\nabcd\nb", 3), [Ok(line(1, "a")), error]);
    }

    #[test]
    fn a_line_is_one_message() {
        let message =
            |text| Line { number: 1, text: Bytes::from_static(text) }.message(&Limits::default());
        assert_eq!(message(DONE.as_bytes()), Ok(Message::Done("co_z1".parse().unwrap())));
        assert_eq!(message(br#"{"action":"done"}"#), Err(DecodeError::Missing("id")));
        let ping = message(br#"{"type":"ping","time":1}"#);
        assert_eq!(ping, Err(DecodeError::Missing("action")));
        assert!(matches!(message(b"x"), Err(DecodeError::Syntax { .. })));
    }
}
