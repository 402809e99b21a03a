//! One stream, shared between its sending and its receiving half.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use downbeat_transport::net::{Io, Pass};
use downbeat_transport::{TransportCounters, TransportError};
use tokio::io::ReadBuf;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long closing may take once one side has begun it.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Link<S> {
    inner: Mutex<Inner<S>>,
    /// Wakes the receiver when our side begins to close.
    closing: Notify,
    counters: Arc<TransportCounters>,
    /// Kept as long as the connection lasts.
    _pass: Pass,
}

struct Inner<S> {
    stream: S,
    /// What remains to be written of the frame that was begun: its head, its payload.
    head: Bytes,
    payload: Bytes,
    /// The close frame, which comes after it.
    last: Bytes,
    /// Whether nothing more can be sent: a close frame was put, or the peer has closed.
    closed: bool,
    /// Whether the receiver does what is left to be written. The stream remembers one waker for
    /// writing, so only one half may.
    taken_over: bool,
    /// Wakes the sender when that happens.
    sender: Option<Waker>,
    /// When the receiver stops waiting for the peer's part in closing.
    close_deadline: Option<Instant>,
}

impl<S> Link<S> {
    pub(crate) fn new(stream: S, pass: Pass, counters: Arc<TransportCounters>) -> Self {
        let inner = Inner {
            stream,
            head: Bytes::new(),
            payload: Bytes::new(),
            last: Bytes::new(),
            closed: false,
            taken_over: false,
            sender: None,
            close_deadline: None,
        };
        Self { inner: Mutex::new(inner), closing: Notify::new(), counters, _pass: pass }
    }

    pub(crate) fn counters(&self) -> &TransportCounters {
        &self.counters
    }

    /// Puts a frame to be written. Only when the one before is written.
    pub(crate) fn put(&self, head: Bytes, payload: Bytes) {
        let mut inner = self.lock();
        inner.head = head;
        inner.payload = payload;
    }

    /// Puts the close frame behind what is being written. Nothing can be sent from now on; the
    /// first one counts. For the sender.
    pub(crate) fn put_close(&self, frame: Bytes) {
        let mut inner = self.lock();
        if !inner.closed {
            inner.closed = true;
            inner.last = frame;
        }
    }

    /// Does the same, and takes over what is left to be written. For the receiver.
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

    /// Starts the clock of closing, unless it runs already.
    pub(crate) fn begin_close(&self) {
        self.lock().close_deadline.get_or_insert_with(|| Instant::now() + CLOSE_TIMEOUT);
        self.closing.notify_one();
    }

    /// When closing must be over, once it has begun.
    pub(crate) fn close_deadline(&self) -> Option<Instant> {
        self.lock().close_deadline
    }

    /// Waits until closing has had its time.
    pub(crate) async fn close_timed_out(&self) {
        loop {
            match self.close_deadline() {
                Some(deadline) => return tokio::time::sleep_until(deadline).await,
                None => self.closing.notified().await,
            }
        }
    }

    /// The lock is held within one poll only, and nothing in there can panic half-way through a
    /// change that the other half would misread.
    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Io> Link<S> {
    /// For the receiver.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.lock().stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &poll {
            self.observe(error);
        }
        poll
    }

    /// Whether what was put has gone to the operating system. For the sender.
    pub(crate) fn poll_written(&self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let mut inner = self.lock();
        if inner.taken_over {
            return Poll::Ready(Err(TransportError::Closed));
        }
        let poll = inner.poll_write(cx);
        inner.sender = poll.is_pending().then(|| cx.waker().clone());
        poll.map_err(|error| {
            self.observe(&error);
            error.into()
        })
    }

    /// Tells the peer that no more comes. For the sender, when everything is written.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        if inner.taken_over {
            return Poll::Ready(Ok(()));
        }
        let poll = Pin::new(&mut inner.stream).poll_shutdown(cx);
        inner.sender = poll.is_pending().then(|| cx.waker().clone());
        poll
    }

    /// Whether everything has gone to the operating system that will ever be written, which then
    /// tells the peer that no more comes. For the receiver, after [`take_over`](Self::take_over).
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        let written = ready!(inner.poll_write(cx));
        // Tried once: what cannot be told now is told by the end of the socket.
        let shut_down = Pin::new(&mut inner.stream).poll_shutdown(cx);
        tracing::trace!(?written, ?shut_down, "the last bytes are written");
        Poll::Ready(())
    }

    /// Counts an error that means that the peer has been silent for too long.
    fn observe(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::TimedOut {
            self.counters.peers_lost.increment();
        }
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
            // Lets go of the memory as soon as it is not needed.
            if self.payload.is_empty() {
                self.payload = Bytes::new();
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}
