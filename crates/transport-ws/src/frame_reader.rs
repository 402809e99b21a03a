//! Reads a WebSocket's bytes for the library, one frame at a time.

use std::io::{self, Cursor};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use downbeat_transport::net::ReceiveBudget;
use downbeat_transport::net::internal::{Displaced, ReceiveShare, StallDetector};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// The bytes of one read, on the stack. The reader keeps those that the library has not read yet.
const READ_BYTES: usize = 8 << 10;

/// The fragments that a message may have, however short they are. The limits on messages and bytes
/// do not see fragments, and a peer could send empty ones for ever. With this limit 10,000 messages
/// a second have at most 15 MB of frame heads, which is less than the limit on bytes.
const FREE_FRAGMENTS: u64 = 256;

/// The bytes that each further fragment must have on average. Programs that use fragments make them
/// several KiB long.
const MIN_FRAGMENT_BYTES: u64 = 256;

/// A stream whose reads end at the end of a WebSocket frame.
///
/// The library keeps the buffer of the largest frame until the connection ends. With this stream
/// below it, there are times at which that buffer is known to be empty, so that the library's state
/// can be renewed. For 10,000 clients that have each sent one file, this saves gigabytes.
pub(crate) struct FrameReader<S> {
    stream: S,
    /// Bytes that were read; those before `taken` are used up.
    buffer: Vec<u8>,
    taken: usize,
    /// Bytes of the current frame that the library has not read yet, its head included.
    remaining: u64,
    /// Whether a message of several fragments is unfinished.
    message_open: bool,
    /// Fragments of the current message.
    fragments: u64,
    /// The bytes in those fragments.
    message_bytes: u64,
    /// The bytes of the current message that the library has.
    passed: usize,
    /// The memory for them.
    share: ReceiveShare,
    /// Why a message was given up.
    given_up: Option<GivenUp>,
    stall: StallDetector,
    /// When the last bytes arrived; only on a transparent stream.
    heard: Option<Instant>,
    /// Whether the stream ended within a frame.
    cut_off: bool,
    mode: Mode,
}

/// Why a message was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// It had too many fragments.
    Fragments,
    /// Others waited for its memory.
    Displaced,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Reads end at the end of a frame.
    Frames,
    /// Reads return all bytes: for a client, which keeps its buffers, and after a malformed frame,
    /// which the library reports.
    Transparent,
}

impl<S> FrameReader<S> {
    /// A server's stream, which begins with these bytes.
    pub(crate) fn new(stream: S, begin: Vec<u8>, budget: Arc<ReceiveBudget>) -> Self {
        let mode = Mode::Frames;
        Self {
            stream,
            buffer: begin,
            taken: 0,
            remaining: 0,
            message_open: false,
            fragments: 0,
            message_bytes: 0,
            passed: 0,
            share: ReceiveShare::new(budget),
            given_up: None,
            stall: StallDetector::default(),
            heard: None,
            cut_off: false,
            mode,
        }
    }

    /// A client's stream, which begins with these bytes.
    pub(crate) fn transparent(stream: S, begin: Vec<u8>) -> Self {
        let heard = Some(Instant::now());
        Self { mode: Mode::Transparent, heard, ..Self::new(stream, begin, Arc::default()) }
    }

    /// When the last bytes arrived, on a transparent stream.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Whether the library has read whole messages only.
    pub(crate) fn between_messages(&self) -> bool {
        self.mode == Mode::Frames && self.remaining == 0 && !self.message_open
    }

    /// See [`StallDetector::stalled_since`].
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.stall.stalled_since()
    }

    /// Whether the stream ended within a frame.
    pub(crate) fn cut_off(&self) -> bool {
        self.cut_off
    }

    /// Why a message was given up, if one was. One read has failed with it; later reads return all
    /// bytes.
    pub(crate) fn given_up(&self) -> Option<GivenUp> {
        self.given_up
    }

    /// Returns the memory of a message that is not there any more.
    pub(crate) fn release(&mut self) {
        self.share.release();
        self.passed = 0;
    }

    /// Gives a message up.
    fn give_up(&mut self, why: GivenUp) -> io::Error {
        self.given_up = Some(why);
        self.mode = Mode::Transparent;
        io::Error::other(match why {
            GivenUp::Fragments => "a message of too many fragments",
            GivenUp::Displaced => "a message for which there is no memory",
        })
    }

    /// Whether a message is incomplete.
    fn unfinished(&self) -> bool {
        self.mode == Mode::Frames
            && (self.remaining > 0 || self.message_open || !self.unread().is_empty())
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.taken..).unwrap_or_default()
    }

    /// Reads the next frame's head if it is complete. Fails if there are too many fragments.
    fn begin_frame(&mut self) -> io::Result<()> {
        let mut cursor = Cursor::new(self.unread());
        match FrameHeader::parse(&mut cursor) {
            Ok(None) => {}
            Ok(Some((header, length))) => {
                self.remaining = length.saturating_add(cursor.position());
                if !self.message_open {
                    self.stall.reset();
                }
                match header.opcode {
                    OpCode::Data(Data::Text | Data::Binary | Data::Continue) => {
                        self.count_fragment(length)?;
                        self.message_open = !header.is_final;
                    }
                    OpCode::Data(Data::Reserved(_)) | OpCode::Control(_) => {}
                }
            }
            Err(_) => self.mode = Mode::Transparent,
        }
        Ok(())
    }

    fn count_fragment(&mut self, length: u64) -> io::Result<()> {
        if !self.message_open {
            (self.fragments, self.message_bytes) = (0, 0);
        }
        self.fragments += 1;
        self.message_bytes = self.message_bytes.saturating_add(length);
        if self.fragments > FREE_FRAGMENTS + self.message_bytes / MIN_FRAGMENT_BYTES {
            return Err(self.give_up(GivenUp::Fragments));
        }
        Ok(())
    }

    /// The number of buffered bytes that the library may read now.
    fn available(&self) -> usize {
        let unread = self.unread().len();
        match self.mode {
            Mode::Transparent => unread,
            Mode::Frames => {
                usize::try_from(self.remaining).map_or(unread, |remaining| remaining.min(unread))
            }
        }
    }

    fn copy_to(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.available().min(buf.remaining());
        if let Some(bytes) = self.unread().get(..count) {
            buf.put_slice(bytes);
        }
        self.taken += count;
        self.remaining = self.remaining.saturating_sub(count as u64);
        self.passed = self.passed.saturating_add(count);
        if self.between_messages() {
            self.share.complete();
        }
        if self.unread().is_empty() {
            self.buffer = Vec::new();
            self.taken = 0;
        }
    }
}

impl<S: AsyncRead + Unpin> FrameReader<S> {
    /// Reads into the buffer; 0 at the end of the stream.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.mode == Mode::Frames {
            // Only for the bytes that are there: otherwise short messages would take a share too.
            match self.share.poll_reserve(self.passed + self.unread().len(), cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Displaced)) => {
                    return Poll::Ready(Err(self.give_up(GivenUp::Displaced)));
                }
                Poll::Pending => {
                    // The peer is not to blame for this pause.
                    self.stall.reset();
                    return Poll::Pending;
                }
            }
        }
        // Not filled with zeros: every poll comes here, and most of the bytes are never used.
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        let mut buf = ReadBuf::uninit(&mut bytes);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                self.cut_off |= self.unfinished();
                return Poll::Ready(Err(error));
            }
            Poll::Pending => {
                self.stall.read_pending(self.unfinished());
                return match self.share.wait_for_sender(cx) {
                    Err(Displaced) if self.unfinished() => {
                        Poll::Ready(Err(self.give_up(GivenUp::Displaced)))
                    }
                    _ => Poll::Pending,
                };
            }
        }
        self.stall.received(buf.filled().len());
        if let Some(heard) = &mut self.heard {
            *heard = Instant::now();
        }
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameReader<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.mode == Mode::Frames && self.remaining == 0 {
                if !self.message_open {
                    // The library reads on only when the caller is done with the last message.
                    self.release();
                }
                self.begin_frame()?;
            }
            if self.available() > 0 {
                self.copy_to(buf);
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_more(cx))? == 0 {
                self.cut_off |= self.unfinished();
                if self.unread().is_empty() {
                    return Poll::Ready(Ok(()));
                }
                // The stream has ended within a frame's head.
                self.mode = Mode::Transparent;
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameReader<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// The bytes of each read, and whether the reader is between messages after it.
    async fn reads(begin: &[u8], rest: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let mut reader = FrameReader::new(rest, begin.to_vec(), Arc::default());
        let mut reads = Vec::new();
        let mut buf = [0; 100];
        loop {
            let count = reader.read(&mut buf).await.unwrap();
            if count == 0 {
                return reads;
            }
            reads.push((buf[..count].to_vec(), reader.between_messages()));
        }
    }

    #[tokio::test]
    async fn a_read_ends_with_the_frame() {
        let frames: [&[u8]; 4] =
            [&[0x81, 2, b'a', b'b'], &[0x01, 1, b'c'], &[0x89, 0], &[0x80, 1, b'd']];
        let expected: Vec<_> =
            frames.iter().map(|f| f.to_vec()).zip([true, false, false, true]).collect();
        let bytes = frames.concat();
        for split in 0..bytes.len() {
            let (begin, rest) = bytes.split_at(split);
            let mut joined: Vec<(Vec<u8>, bool)> = Vec::new();
            let mut frame = Vec::new();
            for (read, between) in reads(begin, rest).await {
                frame.extend(read);
                if expected.get(joined.len()).is_some_and(|(whole, _)| *whole == frame) {
                    joined.push((std::mem::take(&mut frame), between));
                }
            }
            assert_eq!(joined, expected, "the stream begins with {split} bytes");
        }
    }

    #[tokio::test]
    async fn malformed_frames_are_passed_on() {
        let cut = [0x81, 0xFE, 0x01];
        assert_eq!(reads(&[], &cut).await, [(cut.to_vec(), false)]);
        let endless = [&[0x82, 0x7F][..], &[0xFF; 8], b"payload"].concat();
        assert_eq!(reads(&[], &endless).await, [(endless.clone(), false)]);
    }

    /// Whether a message of an empty fragment and this many further ones of this length is read to
    /// its end.
    async fn is_read(fragments: usize, length: u8) -> bool {
        let mut bytes = vec![0x01, 0];
        for left in (0..fragments).rev() {
            bytes.extend([u8::from(left == 0) << 7, length]);
            bytes.resize(bytes.len() + usize::from(length), b' ');
        }
        let mut reader = FrameReader::new(&bytes[..], Vec::new(), Arc::default());
        let mut read = Vec::new();
        let result = reader.read_to_end(&mut read).await;
        assert_eq!(result.is_err(), reader.given_up() == Some(GivenUp::Fragments));
        // The error comes once; the rest can be read and discarded.
        reader.read_to_end(&mut read).await.unwrap();
        result.is_ok()
    }

    #[tokio::test]
    async fn short_fragments_are_limited_within_a_message() {
        assert!(is_read(255, 0).await);
        assert!(!is_read(256, 0).await);
        // Long ones pay for more of them.
        assert!(is_read(256, 1).await);
        assert!(is_read(490, 125).await);
        assert!(!is_read(2_000, 125).await);
    }

    #[tokio::test]
    async fn each_message_has_fragments_of_its_own() {
        let message = [[0x01, 0], [0x89, 0], [0x80, 0]].concat();
        let bytes = message.repeat(1_000);
        let mut reader = FrameReader::new(&bytes[..], Vec::new(), Arc::default());
        reader.read_to_end(&mut Vec::new()).await.unwrap();
        assert!(reader.between_messages());
    }

    #[tokio::test]
    async fn nothing_is_kept_between_frames() {
        let bytes = [[0x81, 1, b'a'], [0x81, 1, b'b']].concat();
        let mut reader = FrameReader::new(&bytes[..], Vec::new(), Arc::default());
        let mut buf = [0; 100];
        assert_eq!(reader.read(&mut buf).await.unwrap(), 3);
        assert_ne!(reader.buffer.capacity(), 0);
        assert_eq!(reader.read(&mut buf).await.unwrap(), 3);
        assert_eq!(reader.buffer.capacity(), 0);
    }
}
