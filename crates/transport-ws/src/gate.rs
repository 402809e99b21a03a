//! Hands a WebSocket's bytes to the library one frame at a time.

use std::io::{self, Cursor};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use downbeat_transport::net::Progress;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// What is read from the socket at once. On the stack while reading; kept only as long as it holds
/// bytes of a frame that the library has not asked for yet.
const READ_BYTES: usize = 8 << 10;

/// Fragments that a message may have however short they are. Fragments are invisible to whoever
/// counts messages and their bytes, and empty ones could go on for ever: with this many, 10,000
/// messages a second come to 15 MB of frame heads, which is less than the bytes that go with them.
const FREE_FRAGMENTS: u64 = 256;

/// What each further fragment must bring on average, in bytes. Programs that cut a message into
/// fragments do so at several KiB.
const MIN_FRAGMENT_BYTES: u64 = 256;

/// A stream that never lets a read run past the end of a WebSocket frame.
///
/// The library keeps the buffer of the largest frame that ever came, for as long as the connection
/// lasts. With this below it there are moments when that buffer is known to be empty, and the
/// library's state can be made anew: at 10,000 clients that each have sent one file, the difference
/// is gigabytes.
pub(crate) struct FrameGate<S> {
    stream: S,
    /// Bytes that were read, from `taken` on.
    buffer: Vec<u8>,
    taken: usize,
    /// Bytes of the current frame that have not been handed on, its head included.
    remaining: u64,
    /// Whether a message of several fragments has begun.
    message_open: bool,
    /// Fragments of the current message.
    fragments: u64,
    /// What they hold, in bytes.
    message_bytes: u64,
    /// Whether a message had too many fragments.
    too_fragmented: bool,
    /// How an unfinished message comes on.
    progress: Progress,
    /// When something has come the last time; only of a stream that is listened to for that.
    heard: Option<Instant>,
    /// Whether the stream ended within a frame.
    cut_off: bool,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Frames,
    /// Hands on all bytes as they come: for a client, which keeps its buffers, or after something
    /// that is no frame, which the library finds as well.
    Anything,
}

impl<S> FrameGate<S> {
    /// A stream of frames that begins with these bytes.
    pub(crate) fn new(stream: S, begin: Vec<u8>) -> Self {
        let kind = Kind::Frames;
        Self {
            stream,
            buffer: begin,
            taken: 0,
            remaining: 0,
            message_open: false,
            fragments: 0,
            message_bytes: 0,
            too_fragmented: false,
            progress: Progress::default(),
            heard: None,
            cut_off: false,
            kind,
        }
    }

    /// A stream whose ends of messages are of no interest; it begins with these bytes.
    pub(crate) fn transparent(stream: S, begin: Vec<u8>) -> Self {
        let heard = Some(Instant::now());
        Self { kind: Kind::Anything, heard, ..Self::new(stream, begin) }
    }

    /// When something has come the last time, of a transparent stream.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Whether everything handed on so far is whole messages.
    pub(crate) fn between_messages(&self) -> bool {
        self.kind == Kind::Frames && self.remaining == 0 && !self.message_open
    }

    /// Since when an unfinished message has hardly come nearer.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.progress.stalled_since()
    }

    /// Whether the stream ended in the middle of a frame.
    pub(crate) fn cut_off(&self) -> bool {
        self.cut_off
    }

    /// Whether the peer has cut a message into more fragments than are accepted. Reading has failed
    /// with it, once; what comes afterwards is handed on as it is.
    pub(crate) fn too_fragmented(&self) -> bool {
        self.too_fragmented
    }

    /// Whether a message has begun and its end has not come yet.
    fn unfinished(&self) -> bool {
        self.kind == Kind::Frames
            && (self.remaining > 0 || self.message_open || !self.waiting().is_empty())
    }

    fn waiting(&self) -> &[u8] {
        self.buffer.get(self.taken..).unwrap_or_default()
    }

    /// Reads the next frame's head, once all of it is there. An error is a fragment too many.
    fn begin_frame(&mut self) -> io::Result<()> {
        let mut cursor = Cursor::new(self.waiting());
        match FrameHeader::parse(&mut cursor) {
            Ok(None) => {}
            Ok(Some((header, length))) => {
                self.remaining = length.saturating_add(cursor.position());
                if !self.message_open {
                    self.progress.begun();
                }
                match header.opcode {
                    OpCode::Data(Data::Text | Data::Binary | Data::Continue) => {
                        self.count_fragment(length);
                        self.message_open = !header.is_final;
                    }
                    OpCode::Data(Data::Reserved(_)) | OpCode::Control(_) => {}
                }
            }
            Err(_) => self.kind = Kind::Anything,
        }
        if self.too_fragmented {
            self.kind = Kind::Anything;
            return Err(io::Error::other("a message of too many fragments"));
        }
        Ok(())
    }

    fn count_fragment(&mut self, length: u64) {
        if !self.message_open {
            (self.fragments, self.message_bytes) = (0, 0);
        }
        self.fragments += 1;
        self.message_bytes = self.message_bytes.saturating_add(length);
        self.too_fragmented =
            self.fragments > FREE_FRAGMENTS + self.message_bytes / MIN_FRAGMENT_BYTES;
    }

    /// How much of what waits may be handed on.
    fn available(&self) -> usize {
        let waiting = self.waiting().len();
        match self.kind {
            Kind::Anything => waiting,
            Kind::Frames => {
                usize::try_from(self.remaining).map_or(waiting, |remaining| remaining.min(waiting))
            }
        }
    }

    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.available().min(buf.remaining());
        if let Some(bytes) = self.waiting().get(..count) {
            buf.put_slice(bytes);
        }
        self.taken += count;
        self.remaining = self.remaining.saturating_sub(count as u64);
        if self.waiting().is_empty() {
            self.buffer = Vec::new();
            self.taken = 0;
        }
    }
}

impl<S: AsyncRead + Unpin> FrameGate<S> {
    /// Reads more behind what waits; 0 at the end of the stream.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Not filled with zeros: most of it is never used, and every poll comes through here.
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        let mut buf = ReadBuf::uninit(&mut bytes);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                self.cut_off |= self.unfinished();
                return Poll::Ready(Err(error));
            }
            Poll::Pending => {
                self.progress.waiting(self.unfinished());
                return Poll::Pending;
            }
        }
        self.progress.received(buf.filled().len());
        if let Some(heard) = &mut self.heard {
            *heard = Instant::now();
        }
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameGate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.kind == Kind::Frames && self.remaining == 0 {
                self.begin_frame()?;
            }
            if self.available() > 0 {
                self.hand_on(buf);
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_more(cx))? == 0 {
                self.cut_off |= self.unfinished();
                if self.waiting().is_empty() {
                    return Poll::Ready(Ok(()));
                }
                // The stream ends within a frame's head.
                self.kind = Kind::Anything;
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameGate<S> {
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

    /// What each read brings, and whether the gate is between messages after it.
    async fn reads(begin: &[u8], rest: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let mut gate = FrameGate::new(rest, begin.to_vec());
        let mut reads = Vec::new();
        let mut buf = [0; 100];
        loop {
            let count = gate.read(&mut buf).await.unwrap();
            if count == 0 {
                return reads;
            }
            reads.push((buf[..count].to_vec(), gate.between_messages()));
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
    async fn what_is_no_frame_is_handed_on() {
        let cut = [0x81, 0xFE, 0x01];
        assert_eq!(reads(&[], &cut).await, [(cut.to_vec(), false)]);
        let endless = [&[0x82, 0x7F][..], &[0xFF; 8], b"payload"].concat();
        assert_eq!(reads(&[], &endless).await, [(endless.clone(), false)]);
    }

    /// A message of this many fragments of this length behind an empty first one, and whether it is
    /// read to its end.
    async fn is_read(fragments: usize, length: u8) -> bool {
        let mut bytes = vec![0x01, 0];
        for left in (0..fragments).rev() {
            bytes.extend([u8::from(left == 0) << 7, length]);
            bytes.resize(bytes.len() + usize::from(length), b' ');
        }
        let mut gate = FrameGate::new(&bytes[..], Vec::new());
        let mut read = Vec::new();
        let result = gate.read_to_end(&mut read).await;
        assert_eq!(result.is_err(), gate.too_fragmented());
        // The error comes once: the rest is for whoever throws it away.
        gate.read_to_end(&mut read).await.unwrap();
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
        let mut gate = FrameGate::new(&bytes[..], Vec::new());
        gate.read_to_end(&mut Vec::new()).await.unwrap();
        assert!(gate.between_messages());
    }

    #[tokio::test]
    async fn nothing_is_kept_between_frames() {
        let bytes = [[0x81, 1, b'a'], [0x81, 1, b'b']].concat();
        let mut gate = FrameGate::new(&bytes[..], Vec::new());
        let mut buf = [0; 100];
        assert_eq!(gate.read(&mut buf).await.unwrap(), 3);
        assert_ne!(gate.buffer.capacity(), 0);
        assert_eq!(gate.read(&mut buf).await.unwrap(), 3);
        assert_eq!(gate.buffer.capacity(), 0);
    }
}
