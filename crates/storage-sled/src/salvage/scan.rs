//! Finds the messages in sled's log, also behind damage.
//!
//! sled reads a log in the order of writing and stops at the first damaged message. A scan reads
//! it in the order of the file, and looks for the next intact message byte by byte. Each message
//! states its place in the order of writing, and has a checksum. So the scan also finds what sled
//! has not overwritten yet, such as older states of a node.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::encoding::{Header, Kind};
use super::repair::repair;
use crate::open::SEGMENT_SIZE;
use crate::tree::LOG_FILE;

/// The directory of sled's blobs.
const BLOB_DIR: &str = "blobs";

/// The bytes before the first message of a segment.
const SEGMENT_HEADER_LEN: usize = 20;

/// A checksum and a kind stand before the content of a blob.
const BLOB_HEADER_LEN: usize = 4 + 1;

/// Zero bytes in a row that are no part of a message's header.
const ZEROS: usize = 32;

/// A message with records.
pub(super) struct Message<'a> {
    pub(super) kind: MessageKind,
    pub(super) page: u64,
    /// The place in the order of writing.
    pub(super) lsn: u64,
    pub(super) body: &'a [u8],
    pub(super) origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageKind {
    Node,
    Link,
}

/// Where the body of a message can be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// At this offset in the log.
    Log(u64),
    /// At this offset in a blob.
    Blob(i64, u64),
    /// In memory only, because the message was repaired.
    Repaired,
}

/// What a scan met.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct ScanStats {
    /// Messages with a right checksum, of all kinds.
    pub(super) intact: u64,
    /// Messages with one flipped bit.
    pub(super) repaired: u64,
    /// Messages with more damage.
    pub(super) damaged: u64,
}

/// Passes all messages with records to `visit`, in the order of the file. A damaged message may be
/// among them, so `visit` must not trust it. `progress` gets the number of bytes that were read.
pub(super) fn scan(
    dir: &Path,
    mut visit: impl FnMut(Message<'_>),
    mut progress: impl FnMut(u64),
) -> io::Result<ScanStats> {
    let mut log = File::open(dir.join(LOG_FILE))?;
    let mut scan = Scan { dir, visit: &mut visit, stats: ScanStats::default(), offset: 0 };
    loop {
        log.seek(SeekFrom::Start(scan.offset))?;
        let mut segment = Vec::with_capacity(SEGMENT_SIZE);
        (&mut log).take(SEGMENT_SIZE as u64).read_to_end(&mut segment)?;
        if segment.is_empty() {
            return Ok(scan.stats);
        }
        scan.segment(&segment);
        progress(segment.len() as u64);
        scan.offset += SEGMENT_SIZE as u64;
    }
}

struct Scan<'a, V> {
    dir: &'a Path,
    visit: &'a mut V,
    stats: ScanStats,
    /// The offset of the segment in the log.
    offset: u64,
}

impl<V: FnMut(Message<'_>)> Scan<'_, V> {
    fn segment(&mut self, bytes: &[u8]) {
        let mut at = SEGMENT_HEADER_LEN;
        while at < bytes.len() {
            if let Some(header) = intact_header(&bytes[at..]) {
                self.stats.intact += 1;
                let origin = Origin::Log(self.offset + (at + header.len) as u64);
                self.message(&header, at, header.body(&bytes[at..]), origin);
                at += header.message_len();
            } else {
                let next = (at + 1..bytes.len()).find(|&at| intact_header(&bytes[at..]).is_some());
                let end = next.unwrap_or(bytes.len());
                self.gap(&bytes[..end], at);
                at = end;
            }
        }
    }

    /// Bytes from `at` on without an intact message: free, or damaged messages.
    fn gap(&mut self, bytes: &[u8], mut at: usize) {
        while at < bytes.len() {
            let gap = &bytes[at..];
            if gap.iter().take(ZEROS).all(|&byte| byte == 0) {
                at += gap.iter().take_while(|&&byte| byte == 0).count();
                continue;
            }
            if let Some(message) = repair(gap)
                && let Some(header) = Header::parse(&message)
            {
                self.stats.repaired += 1;
                self.message(&header, at, header.body(&message), Origin::Repaired);
                at += message.len();
            } else if let Some(header) = Header::parse(gap) {
                self.stats.damaged += 1;
                let origin = Origin::Log(self.offset + (at + header.len) as u64);
                self.message(&header, at, header.body(gap), origin);
                at += header.message_len();
            } else {
                self.stats.damaged += 1;
                return;
            }
        }
    }

    fn message(&mut self, header: &Header, at: usize, body: &[u8], origin: Origin) {
        let (page, lsn) = (header.page, header.lsn(self.offset + at as u64));
        let kind = match header.kind {
            Kind::Node | Kind::BlobNode => MessageKind::Node,
            Kind::Link | Kind::BlobLink => MessageKind::Link,
            Kind::Other => return,
        };
        if !matches!(header.kind, Kind::BlobNode | Kind::BlobLink) {
            (self.visit)(Message { kind, page, lsn, body, origin });
            return;
        }
        let Ok(name) = body.try_into().map(i64::from_le_bytes) else { return };
        match read_blob(self.dir, name, BLOB_HEADER_LEN as u64, None) {
            Ok(body) => {
                let origin = Origin::Blob(name, BLOB_HEADER_LEN as u64);
                (self.visit)(Message { kind, page, lsn, body: &body, origin });
            }
            // sled removes blobs of old states.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(_) => self.stats.damaged += 1,
        }
    }
}

/// The header of an intact message at the start of these bytes.
fn intact_header(bytes: &[u8]) -> Option<Header> {
    // Most bytes are ruled out without parsing them.
    if !Header::may_begin(bytes) {
        return None;
    }
    Header::parse(bytes).filter(|header| header.crc_difference(bytes) == 0)
}

/// Reads a blob from an offset on.
pub(super) fn read_blob(
    dir: &Path,
    name: i64,
    offset: u64,
    len: Option<u64>,
) -> io::Result<Vec<u8>> {
    let mut blob = File::open(dir.join(BLOB_DIR).join(name.to_string()))?;
    blob.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    blob.take(len.unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The length of the log.
pub(super) fn log_len(dir: &Path) -> io::Result<u64> {
    Ok(fs::metadata(dir.join(LOG_FILE))?.len())
}
