//! Hands a WebSocket's bytes to the library one frame at a time.

use std::io::{self, Cursor};
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
    /// How an unfinished message comes on.
    progress: Progress,
    /// Whether the stream ended within a frame.
    cut_off: bool,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Frames,
    /// Hands on whatever comes: the stream began before its first frame, or what came is no frame,
    /// which the library finds as well.
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
            progress: Progress::default(),
            cut_off: false,
            kind,
        }
    }

    /// A stream that begins with something else than frames, and so has no known ends of messages.
    pub(crate) fn transparent(stream: S) -> Self {
        Self { kind: Kind::Anything, ..Self::new(stream, Vec::new()) }
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

    /// Whether a message has begun and its end has not come yet.
    fn unfinished(&self) -> bool {
        self.kind == Kind::Frames
            && (self.remaining > 0 || self.message_open || !self.waiting().is_empty())
    }

    fn waiting(&self) -> &[u8] {
        self.buffer.get(self.taken..).unwrap_or_default()
    }

    /// Reads the next frame's head, once all of it is there.
    fn begin_frame(&mut self) {
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
                        self.message_open = !header.is_final;
                    }
                    OpCode::Data(Data::Reserved(_)) | OpCode::Control(_) => {}
                }
            }
            Err(_) => self.kind = Kind::Anything,
        }
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
        let mut bytes = [0; READ_BYTES];
        let mut buf = ReadBuf::new(&mut bytes);
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
                self.begin_frame();
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
