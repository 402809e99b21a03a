//! One WebSocket, shared between its sending and its receiving half.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use downbeat_transport::TransportError;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::Message as WsMessage;

/// How long the closing handshake may take once one side has begun it.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a socket is made of, with or without encryption.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

pub(crate) struct Socket<S> {
    inner: Mutex<Inner<S>>,
    /// Wakes the receiver when our side begins to close.
    closing: Notify,
    /// Whether the peer has shown that it takes several messages in a frame.
    peer_batches: AtomicBool,
}

struct Inner<S> {
    ws: WebSocketStream<S>,
    /// The library remembers one waker for writing. The receiver takes its place when it has to
    /// write a last word, and wakes the sender's when done.
    sender: Option<Waker>,
    /// When the receiver stops waiting for the peer's part in closing.
    close_deadline: Option<Instant>,
}

impl<S> Socket<S> {
    pub(crate) fn wake_sender(&self) {
        let sender = self.lock().sender.take();
        if let Some(sender) = sender {
            sender.wake();
        }
    }

    /// The lock is held within one poll only, and nothing in there can panic half-way through a
    /// change that the other half would misread.
    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Io> Socket<S> {
    pub(crate) fn new(ws: WebSocketStream<S>) -> Self {
        Self {
            inner: Mutex::new(Inner { ws, sender: None, close_deadline: None }),
            closing: Notify::new(),
            peer_batches: AtomicBool::new(false),
        }
    }

    pub(crate) fn peer_batches(&self) -> bool {
        self.peer_batches.load(Ordering::Relaxed)
    }

    pub(crate) fn set_peer_batches(&self) {
        self.peer_batches.store(true, Ordering::Relaxed);
    }

    /// The next frame of the peer. For the receiver.
    pub(crate) fn poll_next(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<WsMessage, WsError>>> {
        Pin::new(&mut self.lock().ws).poll_next(cx)
    }

    /// Puts a frame into the write buffer. [`WsError::WriteBufferFull`] is the only error after
    /// which the same frame may be tried again, when [`poll_flush`](Self::poll_flush) is done.
    pub(crate) fn write(&self, frame: WsMessage) -> Result<(), WsError> {
        Pin::new(&mut self.lock().ws).start_send(frame)
    }

    /// Whether the write buffer has room. For the sender.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        let mut inner = self.lock();
        let poll = Pin::new(&mut inner.ws).poll_ready(cx);
        inner.sender = poll.is_pending().then(|| cx.waker().clone());
        poll
    }

    /// Whether the write buffer has gone to the operating system. For the sender.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        let mut inner = self.lock();
        let poll = Pin::new(&mut inner.ws).poll_flush(cx);
        inner.sender = poll.is_pending().then(|| cx.waker().clone());
        poll
    }

    /// Whether everything has gone to the operating system that will ever be written, which then
    /// tells the peer that no more comes. For the receiver, after a close frame: whoever calls this
    /// calls [`wake_sender`](Self::wake_sender) when done.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        let flushed = ready!(Pin::new(&mut inner.ws).poll_flush(cx));
        // Tried once: what cannot be told now is told by the end of the socket.
        let shut_down = Pin::new(inner.ws.get_mut()).poll_shutdown(cx);
        tracing::trace!(?flushed, ?shut_down, "the last bytes are written");
        Poll::Ready(())
    }

    /// Reads past the library, to throw away what a peer goes on sending after we failed it.
    pub(crate) fn poll_raw_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(self.lock().ws.get_mut()).poll_read(cx, buf)
    }

    /// Starts the clock of the closing handshake, unless it runs already.
    pub(crate) fn begin_close(&self) {
        self.lock().close_deadline.get_or_insert_with(|| Instant::now() + CLOSE_TIMEOUT);
        self.closing.notify_one();
    }

    /// When the closing handshake must be over, once it has begun.
    pub(crate) fn close_deadline(&self) -> Option<Instant> {
        self.lock().close_deadline
    }

    /// Waits until the closing handshake has had its time.
    pub(crate) async fn close_timed_out(&self) {
        loop {
            match self.close_deadline() {
                Some(deadline) => return tokio::time::sleep_until(deadline).await,
                None => self.closing.notified().await,
            }
        }
    }
}

/// What an error of the library means to a caller.
pub(crate) fn transport_error(error: WsError) -> TransportError {
    match error {
        WsError::ConnectionClosed
        | WsError::AlreadyClosed
        | WsError::Protocol(ProtocolError::SendAfterClosing) => TransportError::Closed,
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            TransportError::Disconnected
        }
        WsError::Io(error) => error.into(),
        other => TransportError::Protocol(other.to_string()),
    }
}
