//! One stream, shared by the sender and the receiver.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use downbeat_transport::net::Io;
use downbeat_transport::net::internal::{CloseTimer, ClosingStream, Permit};
use downbeat_transport::{TransportCounters, TransportError};
use tokio::io::ReadBuf;

pub(crate) struct SharedStream<S> {
    inner: Mutex<Inner<S>>,
    close_timer: CloseTimer,
    counters: Arc<TransportCounters>,
    /// Released when the connection ends.
    _permit: Permit,
}

struct Inner<S> {
    stream: S,
    /// The unwritten rest of the current frame: its head, its payload.
    head: Bytes,
    payload: Bytes,
    /// The close frame, which follows it.
    last: Bytes,
    /// Whether nothing more can be sent: either side has closed.
    closed: bool,
    /// Whether the receiver writes the rest. The stream keeps only one waker for writing, so only
    /// one half may write.
    taken_over: bool,
    /// The sender's waker, for the moment at which the receiver takes over.
    sender: Option<Waker>,
}

impl<S> SharedStream<S> {
    pub(crate) fn new(stream: S, permit: Permit, counters: Arc<TransportCounters>) -> Self {
        let inner = Inner {
            stream,
            head: Bytes::new(),
            payload: Bytes::new(),
            last: Bytes::new(),
            closed: false,
            taken_over: false,
            sender: None,
        };
        let close_timer = CloseTimer::default();
        Self { inner: Mutex::new(inner), close_timer, counters, _permit: permit }
    }

    pub(crate) fn counters(&self) -> &TransportCounters {
        &self.counters
    }

    /// Sets the frame to write. Call this only when the one before is written.
    pub(crate) fn put(&self, head: Bytes, payload: Bytes) {
        let mut inner = self.lock();
        inner.head = head;
        inner.payload = payload;
    }

    /// Sets the close frame, which follows the current frame. From now on nothing can be sent. Only
    /// the first call counts. For the sender.
    pub(crate) fn put_close(&self, frame: Bytes) {
        let mut inner = self.lock();
        if !inner.closed {
            inner.closed = true;
            inner.last = frame;
        }
    }

    /// The same for the receiver, which from now on writes the rest.
    pub(crate) fn take_over(&self, frame: Option<Bytes>) {
        let mut inner = self.lock();
        if let Some(frame) = frame
            && !inner.closed
        {
            inner.last = frame;
        }
        inner.closed = true;
        inner.taken_over = true;
        if let Some(sender) = inner.sender.take() {
            sender.wake();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// The lock is held within one poll only. No code panics within a change that would leave the
    /// state inconsistent.
    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Io> SharedStream<S> {
    /// For the receiver.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.lock().stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &poll {
            self.count_lost_peer(error);
        }
        poll
    }

    /// Ready when everything is written. For the sender.
    pub(crate) fn poll_written(&self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let mut inner = self.lock();
        if inner.taken_over {
            return Poll::Ready(Err(TransportError::Closed));
        }
        let poll = inner.poll_write(cx);
        inner.sender = poll.is_pending().then(|| cx.waker().clone());
        poll.map_err(|error| {
            self.count_lost_peer(&error);
            error.into()
        })
    }

    /// Shuts down the write side. For the sender, when everything is written.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        if inner.taken_over {
            return Poll::Ready(Ok(()));
        }
        let poll = Pin::new(&mut inner.stream).poll_shutdown(cx);
        inner.sender = poll.is_pending().then(|| cx.waker().clone());
        poll
    }

    /// Counts a peer whose system has stopped to answer.
    fn count_lost_peer(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::TimedOut {
            self.counters.peers_lost.increment();
        }
    }
}

impl<S: Io> ClosingStream for SharedStream<S> {
    /// After [`take_over`](Self::take_over).
    fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        let written = ready!(inner.poll_write(cx));
        // One attempt is enough: the end of the socket shuts it down too.
        let shut_down = Pin::new(&mut inner.stream).poll_shutdown(cx);
        tracing::trace!(?written, ?shut_down, "the last bytes are written");
        Poll::Ready(())
    }

    fn poll_discard(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_read(cx, buf)
    }

    fn close_timer(&self) -> &CloseTimer {
        &self.close_timer
    }
}

impl<S: Io> Inner<S> {
    fn is_written(&self) -> bool {
        self.head.is_empty() && self.payload.is_empty() && self.last.is_empty()
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_written() {
            let stream = Pin::new(&mut self.stream);
            let parts =
                [IoSlice::new(&self.head), IoSlice::new(&self.payload), IoSlice::new(&self.last)];
            let mut count = ready!(stream.poll_write_vectored(cx, &parts))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            for part in [&mut self.head, &mut self.payload, &mut self.last] {
                let taken = count.min(part.len());
                part.advance(taken);
                count -= taken;
            }
            // Frees the memory at once.
            if self.payload.is_empty() {
                self.payload = Bytes::new();
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}
