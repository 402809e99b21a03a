//! The portable file: content messages of the protocol, one per line, between a first and a last
//! line of our own. `docs/tools.md` describes the format.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use downbeat_protocol::json::{Lines, LinesError};
use downbeat_protocol::{Codec, Content, JsonCodec, Limits, Message, json};
use serde::{Deserialize, Serialize};

use crate::error::FileError;

/// The format version of written files, and the newest version that can be read.
const VERSION: u32 = 1;

/// The longest line that is read. A message holds little more than 1 MiB, unless a single extension
/// of a log is larger; peers could send extensions of up to 32 MiB.
const MAX_LINE_LEN: usize = 256 << 20;

/// Limits for decoding. They are higher than those for a peer, because the content comes from a
/// store; the limit on nesting is the same.
const LIMITS: Limits = Limits {
    message_bytes: MAX_LINE_LEN,
    header_bytes: MAX_LINE_LEN,
    messages_per_frame: 1,
    transactions: 10_000_000,
    sessions: 1_000_000,
    reconcile_values: 0,
    depth: 10_000,
};

/// The first bytes of a zstd frame.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The default of zstd: faster than a disk, and higher levels gain little.
const ZSTD_LEVEL: i32 = 3;

/// Bytes per read or write.
const BUFFER_LEN: usize = 256 << 10;

/// The lines that frame the messages.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "downbeat", rename_all = "lowercase")]
pub(crate) enum Mark {
    /// The first line.
    Export {
        /// The version of the format.
        version: u32,
    },
    /// The last line. A file without it was cut off.
    #[serde(rename_all = "camelCase")]
    End(Totals),
}

/// The amount of content in a portable file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// CoValues.
    pub co_values: u64,
    /// Messages, one per line.
    pub messages: u64,
    /// Transactions.
    pub transactions: u64,
}

/// A portable file for reading, plain or compressed.
pub struct Input {
    name: String,
    lines: Lines<Box<dyn BufRead>>,
    len: Option<u64>,
    read: Arc<AtomicU64>,
}

/// A line of a file.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// The number of the line. The first is 1.
    pub number: u64,
    /// The text, without the line feed.
    pub text: Bytes,
}

impl Input {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(io_error("open", &name))?;
        let len = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|found| found.len());
        Self::new(name, file, len)
    }

    /// Reads standard input.
    pub fn stdin() -> Result<Self, FileError> {
        Self::new("standard input".to_owned(), io::stdin(), None)
    }

    fn new(name: String, raw: impl Read + 'static, len: Option<u64>) -> Result<Self, FileError> {
        let read = Arc::new(AtomicU64::new(0));
        let mut raw = Counting { raw, read: Arc::clone(&read) };
        let mut magic = Vec::with_capacity(ZSTD_MAGIC.len());
        raw.by_ref()
            .take(ZSTD_MAGIC.len() as u64)
            .read_to_end(&mut magic)
            .map_err(io_error("read", &name))?;
        let is_zstd = magic == ZSTD_MAGIC;
        let raw = BufReader::with_capacity(BUFFER_LEN, Cursor::new(magic).chain(raw));
        let reader: Box<dyn BufRead> = if is_zstd {
            let decoder = zstd::Decoder::with_buffer(raw).map_err(io_error("decompress", &name))?;
            Box::new(BufReader::with_capacity(BUFFER_LEN, decoder))
        } else {
            Box::new(raw)
        };
        Ok(Self { name, lines: Lines::new(reader, MAX_LINE_LEN), len, read })
    }

    /// The next line that is not empty, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Line>, FileError> {
        let error = match self.lines.next() {
            None => return Ok(None),
            Some(Ok(json::Line { number, text })) => return Ok(Some(Line { number, text })),
            Some(Err(error)) => error,
        };
        let name = self.name.clone();
        Err(match error {
            LinesError::Io { line, source } => FileError::Read { name, line, source },
            LinesError::TooLong { line, max_len } => {
                let problem = format!("it is longer than {max_len} bytes");
                FileError::Line { name, line, problem }
            }
            other => FileError::Line { name, line: self.line(), problem: other.to_string() },
        })
    }

    /// The name of the file, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The number of the last line that was read.
    pub(crate) fn line(&self) -> u64 {
        self.lines.number()
    }

    /// The length of the file on disk, if it is known.
    pub(crate) fn len(&self) -> Option<u64> {
        self.len
    }

    /// The bytes that have been read from disk.
    pub(crate) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

impl Line {
    /// The line as a mark, if it is one.
    pub(crate) fn mark(&self) -> Option<Result<Mark, String>> {
        const START: &[u8] = b"{\"downbeat\":";
        let is_mark = self.text.starts_with(START);
        is_mark.then(|| match serde_json::from_slice(&self.text) {
            Ok(Mark::Export { version }) if version > VERSION => Err(format!(
                "the file has format version {version}, and this program reads up to version \
                 {VERSION}: use a newer one"
            )),
            Ok(mark) => Ok(mark),
            Err(error) => Err(format!("not a line of an export: {error}")),
        })
    }

    /// The line as a content message, or the problem with it.
    pub(crate) fn content(&self) -> Result<Content, String> {
        let mut frame =
            JsonCodec { limits: LIMITS }.decode(&self.text).map_err(|error| error.to_string())?;
        if let Some(error) = frame.rejected.pop() {
            return Err(error.to_string());
        }
        match frame.messages.pop() {
            Some(Message::Content(content)) => Ok(content),
            Some(message) => Err(format!("a `{}` message, not `content`", message.action())),
            None => Err("not a content message".to_owned()),
        }
    }
}

/// Counts the bytes that are read through it.
struct Counting<R> {
    raw: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.raw.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// A portable file for writing. It has the suffix `.unfinished` until it is complete.
pub struct Output {
    sink: Sink,
    /// The name of the unfinished file and that of the finished one.
    paths: Option<(PathBuf, PathBuf)>,
    totals: Totals,
}

enum Sink {
    Plain(BufWriter<Box<dyn Target>>),
    Zstd(zstd::Encoder<'static, BufWriter<Box<dyn Target>>>),
}

/// A file or standard output.
trait Target: Write + Send {
    /// Flushes written data to disk, if there is one.
    fn sync(&self) -> io::Result<()>;
}

impl Target for File {
    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Target for io::Stdout {
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    /// Creates a file. An existing file is replaced when the new one is complete.
    pub fn create(path: &Path, compress: bool) -> Result<Self, FileError> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        let name = unfinished.display().to_string();
        let file = File::create(&unfinished).map_err(io_error("create", &name))?;
        Self::new(Box::new(file), Some((unfinished, path.to_owned())), compress)
            .map_err(io_error("write", &name))
    }

    /// Writes to standard output.
    pub fn stdout(compress: bool) -> Result<Self, FileError> {
        Self::new(Box::new(io::stdout()), None, compress).map_err(io_error("write", STDOUT))
    }

    fn new(
        target: Box<dyn Target>,
        paths: Option<(PathBuf, PathBuf)>,
        compress: bool,
    ) -> io::Result<Self> {
        let target = BufWriter::with_capacity(BUFFER_LEN, target);
        let sink = if compress {
            let mut encoder = zstd::Encoder::new(target, ZSTD_LEVEL)?;
            // So that damage is found when the file is read.
            encoder.include_checksum(true)?;
            Sink::Zstd(encoder)
        } else {
            Sink::Plain(target)
        };
        let mut output = Self { sink, paths, totals: Totals::default() };
        output.write_mark(&Mark::Export { version: VERSION })?;
        Ok(output)
    }

    /// Writes lines made by [`encode`], and adds their content to the totals.
    pub(crate) fn write(&mut self, lines: &[u8], totals: Totals) -> Result<(), FileError> {
        self.totals.co_values += totals.co_values;
        self.totals.messages += totals.messages;
        self.totals.transactions += totals.transactions;
        self.write_all(lines).map_err(io_error("write", &self.name()))
    }

    /// Writes the last line, makes the file durable, and gives it its final name.
    pub(crate) fn finish(mut self) -> Result<Totals, FileError> {
        let (name, totals, paths) = (self.name(), self.totals, self.paths.take());
        self.write_end().map_err(io_error("write", &name))?;
        if let Some((unfinished, path)) = paths {
            std::fs::rename(&unfinished, &path)
                .map_err(io_error("create", &path.display().to_string()))?;
        }
        Ok(totals)
    }

    fn write_end(mut self) -> io::Result<()> {
        self.write_mark(&Mark::End(self.totals))?;
        let mut target = match self.sink {
            Sink::Plain(target) => target,
            Sink::Zstd(encoder) => encoder.finish()?,
        };
        target.flush()?;
        target.get_ref().sync()
    }

    fn name(&self) -> String {
        let path = self.paths.as_ref().map(|(unfinished, _)| unfinished.display().to_string());
        path.unwrap_or_else(|| STDOUT.to_owned())
    }

    fn write_mark(&mut self, mark: &Mark) -> io::Result<()> {
        let mut line = serde_json::to_vec(mark)?;
        line.push(b'\n');
        self.write_all(&line)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.sink {
            Sink::Plain(target) => target.write_all(bytes),
            Sink::Zstd(encoder) => encoder.write_all(bytes),
        }
    }
}

/// The name of standard output in messages.
const STDOUT: &str = "standard output";

fn io_error(action: &'static str, name: &str) -> impl FnOnce(io::Error) -> FileError {
    let name = name.to_owned();
    move |source| FileError::Io { action, name, source }
}

/// Appends a content message as a line.
pub(crate) fn encode(content: Content, lines: &mut Vec<u8>) {
    json::encode_message(&Message::Content(content), lines);
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &'static str) -> Line {
        Line { number: 1, text: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn the_first_and_the_last_line_are_json_of_our_own() {
        let export = serde_json::to_string(&Mark::Export { version: 1 }).unwrap();
        assert_eq!(export, r#"{"downbeat":"export","version":1}"#);
        let end = Mark::End(Totals { co_values: 1, messages: 2, transactions: 3 });
        let text = r#"{"downbeat":"end","coValues":1,"messages":2,"transactions":3}"#;
        assert_eq!(serde_json::to_string(&end).unwrap(), text);
        assert_eq!(line(text).mark(), Some(Ok(end)));
    }

    #[test]
    fn a_newer_format_is_refused() {
        let error = line(r#"{"downbeat":"export","version":2}"#).mark().unwrap().unwrap_err();
        assert!(error.contains("format version 2"), "{error}");
    }

    #[test]
    fn a_line_that_is_no_content_says_what_it_is() {
        let error = |text| line(text).content().unwrap_err();
        assert!(error(r#"{"action":"done","id":"co_z1"}"#).contains("`done`"));
        assert!(error("nonsense").contains("not JSON"));
        assert!(error(r#"{"action":"content","id":"co_z1"}"#).contains("`new` is missing"));
    }

    #[test]
    fn empty_lines_are_passed_over_and_counted() {
        let mut input = Input::new("it".to_owned(), &b"a\n\n\nb"[..], None).unwrap();
        let a = input.next().unwrap().unwrap();
        assert_eq!((a.number, &a.text[..]), (1, &b"a"[..]));
        let b = input.next().unwrap().unwrap();
        assert_eq!((b.number, &b.text[..]), (4, &b"b"[..]));
        assert!(input.next().unwrap().is_none());
        assert_eq!(input.read(), 5);
    }
}
