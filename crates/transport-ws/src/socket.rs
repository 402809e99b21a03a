//! One WebSocket, shared by the sender and the receiver.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use downbeat_transport::net::Io;
use downbeat_transport::net::internal::{CloseTimer, ClosingStream, Permit};
use downbeat_transport::{TransportCounters, TransportError};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Message as WsMessage, Role, WebSocketConfig};

use crate::frame_reader::{FrameReader, GivenUp};

/// The library keeps the buffer of a frame over this size; an idle connection should free it.
const RELEASE_ABOVE: usize = 8 << 10;

pub(crate) struct Socket<S> {
    inner: Mutex<Inner<S>>,
    close_timer: CloseTimer,
    /// Whether the peer has sent several messages in one frame, and so accepts them too.
    peer_batches: AtomicBool,
    counters: Arc<TransportCounters>,
    /// Released when the connection ends.
    _permit: Permit,
}

struct Inner<S> {
    /// `None` only if its renewal failed; then the connection counts as closed.
    ws: Option<WebSocketStream<FrameReader<S>>>,
    config: WebSocketConfig,
    /// Whether the library holds the buffer of a large frame.
    grown: bool,
    /// Whether the library has seen a close or an error.
    ending: bool,
    /// The sender's waker. The library keeps only one waker for writing: the receiver replaces it
    /// while it writes a close, and then wakes the sender.
    sender: Option<Waker>,
}

impl<S> Socket<S> {
    pub(crate) fn wake_sender(&self) {
        let sender = self.lock().sender.take();
        if let Some(sender) = sender {
            sender.wake();
        }
    }

    /// The lock is held within one poll only. No code panics within a change that would leave the
    /// state inconsistent.
    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Io> Socket<S> {
    pub(crate) fn new(
        ws: WebSocketStream<FrameReader<S>>,
        permit: Permit,
        counters: Arc<TransportCounters>,
    ) -> Self {
        let inner = Inner {
            config: *ws.get_config(),
            ws: Some(ws),
            grown: false,
            ending: false,
            sender: None,
        };
        Self {
            inner: Mutex::new(inner),
            close_timer: CloseTimer::default(),
            peer_batches: AtomicBool::new(false),
            counters,
            _permit: permit,
        }
    }

    pub(crate) fn counters(&self) -> &TransportCounters {
        &self.counters
    }

    /// Counts a peer whose system has stopped to answer.
    fn count_lost_peer(&self, error: Option<&WsError>) {
        if let Some(WsError::Io(error)) = error
            && error.kind() == io::ErrorKind::TimedOut
        {
            self.counters.peers_lost.increment();
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
        let mut inner = self.lock();
        let poll = ready!(Pin::new(inner.ws()?).poll_next(cx));
        if let Some(Err(error)) = &poll {
            self.count_lost_peer(Some(error));
        }
        match &poll {
            Some(Err(_)) if inner.ws()?.get_ref().given_up() == Some(GivenUp::Displaced) => {
                inner.drop_partial(cx);
            }
            Some(Ok(WsMessage::Close(_)) | Err(_)) | None => inner.ending = true,
            Some(Ok(message)) => {
                inner.grown |= message.len() > RELEASE_ABOVE;
                inner.release(cx);
            }
        }
        Poll::Ready(poll)
    }

    /// See [`StallDetector::stalled_since`](downbeat_transport::net::internal::StallDetector). For
    /// the receiver, after a [`poll_next`](Self::poll_next) without a frame.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.lock().ws.as_ref().and_then(|ws| ws.get_ref().stalled_since())
    }

    /// When the last bytes arrived, on a connection that we made.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.lock().ws.as_ref().and_then(|ws| ws.get_ref().heard())
    }

    /// Why a message was given up, if one was.
    pub(crate) fn given_up(&self) -> Option<GivenUp> {
        self.lock().ws.as_ref().and_then(|ws| ws.get_ref().given_up())
    }

    /// Whether the stream has ended within a frame.
    pub(crate) fn cut_off(&self) -> bool {
        self.lock().ws.as_ref().is_some_and(|ws| ws.get_ref().cut_off())
    }

    /// Writes a frame into the write buffer. After [`WsError::WriteBufferFull`], and no other
    /// error, the caller may retry once [`poll_flush`](Self::poll_flush) is ready.
    pub(crate) fn write(&self, frame: WsMessage) -> Result<(), WsError> {
        let mut inner = self.lock();
        inner.grown |= frame.len() > RELEASE_ABOVE;
        inner.ending |= frame.is_close();
        Pin::new(inner.ws()?).start_send(frame)
    }

    /// Ready when the write buffer has room. For the sender.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        let mut inner = self.lock();
        let poll = Pin::new(inner.ws()?).poll_ready(cx);
        inner.sender = poll.is_pending().then(|| cx.waker().clone());
        if let Poll::Ready(result) = &poll {
            self.count_lost_peer(result.as_ref().err());
        }
        poll
    }

    /// Ready when the write buffer is written. For the sender.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        let mut inner = self.lock();
        // Usually this writes everything. With the real waker the library would nevertheless wake
        // the sender at the peer's next frame.
        let mut no_waker = Context::from_waker(Waker::noop());
        let mut poll = Pin::new(inner.ws()?).poll_flush(&mut no_waker);
        if poll.is_pending() {
            poll = Pin::new(inner.ws()?).poll_flush(cx);
        }
        inner.sender = poll.is_pending().then(|| cx.waker().clone());
        match &poll {
            Poll::Ready(Ok(())) => inner.release(cx),
            Poll::Ready(Err(error)) => self.count_lost_peer(Some(error)),
            Poll::Pending => {}
        }
        poll
    }
}

impl<S: Io> ClosingStream for Socket<S> {
    /// After a close frame was written.
    fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        let Ok(ws) = inner.ws() else { return Poll::Ready(()) };
        let flushed = ready!(Pin::new(&mut *ws).poll_flush(cx));
        // One attempt is enough: the end of the socket shuts it down too.
        let shut_down = Pin::new(ws.get_mut()).poll_shutdown(cx);
        tracing::trace!(?flushed, ?shut_down, "the last bytes are written");
        Poll::Ready(())
    }

    /// Reads past the library.
    fn poll_discard(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.lock().ws() {
            Ok(ws) => Pin::new(ws.get_mut()).poll_read(cx, buf),
            Err(_) => Poll::Ready(Ok(())),
        }
    }

    /// [`poll_end`](Self::poll_end) has taken the sender's place as the writer.
    fn ended(&self) {
        self.wake_sender();
    }

    fn close_timer(&self) -> &CloseTimer {
        &self.close_timer
    }
}

impl<S: Io> Inner<S> {
    fn ws(&mut self) -> Result<&mut WebSocketStream<FrameReader<S>>, WsError> {
        self.ws.as_mut().ok_or(WsError::AlreadyClosed)
    }

    /// Frees the buffers of large frames when they are empty and no frame is in progress.
    fn release(&mut self, cx: &mut Context<'_>) {
        let is_free = |ws: &WebSocketStream<FrameReader<S>>| ws.get_ref().between_messages();
        if self.grown && !self.ending && self.ws.as_ref().is_some_and(is_free) {
            self.renew(cx);
        }
    }

    /// Frees the memory of a message that was given up. Only a close follows.
    fn drop_partial(&mut self, cx: &mut Context<'_>) {
        if !self.ending
            && self.renew(cx)
            && let Some(ws) = &mut self.ws
        {
            ws.get_mut().release();
        }
    }

    /// Renews the library's state on the same stream, which drops its buffers. Does nothing while
    /// there are unwritten bytes. Returns whether it has renewed the state.
    fn renew(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(mut ws) = self.ws.take() else { return false };
        let flushed = Pin::new(&mut ws).poll_flush(cx);
        // The flush has replaced the sender's waker, and the renewal would lose it.
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
        if !matches!(flushed, Poll::Ready(Ok(()))) {
            self.ws = Some(ws);
            return false;
        }
        self.grown = false;
        let stream = ws.into_inner();
        let renewed = WebSocketStream::from_raw_socket(stream, Role::Server, Some(self.config));
        if let Poll::Ready(ws) = pin!(renewed).poll(cx) {
            self.ws = Some(ws);
        }
        true
    }
}

/// Converts an error of the library.
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Wake;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// A waker that remembers whether it was called.
    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// A server's socket, and the other end of its stream, which buffers this many bytes.
    async fn socket(room: usize) -> (Socket<DuplexStream>, DuplexStream) {
        let (near, far) = duplex(room);
        let reader = FrameReader::new(near, Vec::new(), Arc::default());
        let ws = WebSocketStream::from_raw_socket(reader, Role::Server, None).await;
        (Socket::new(ws, Permit::default(), Arc::default()), far)
    }

    /// A frame of a client; a mask of zeros leaves the payload as it is.
    fn frame(first: u8, length: u16) -> Vec<u8> {
        let mut bytes = vec![first, 0xFE];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.resize(bytes.len() + usize::from(length), b'x');
        bytes
    }

    async fn next_len(socket: &Socket<DuplexStream>) -> usize {
        poll_fn(|cx| socket.poll_next(cx)).await.unwrap().unwrap().len()
    }

    #[tokio::test]
    async fn a_large_frames_buffer_is_released_and_the_next_frames_come() {
        let (socket, mut far) = socket(200_000).await;
        let bytes = [frame(0x81, 60_000), frame(0x81, 200), frame(0x81, 50_000)].concat();
        far.write_all(&bytes).await.unwrap();
        for length in [60_000, 200, 50_000] {
            assert_eq!(next_len(&socket).await, length);
            assert!(!socket.lock().grown);
        }
    }

    #[tokio::test]
    async fn nothing_is_released_between_the_fragments_of_a_message() {
        let (socket, mut far) = socket(200_000).await;
        socket.lock().grown = true;
        // A ping comes between the fragments.
        let bytes = [frame(0x01, 200), vec![0x89, 0x80, 0, 0, 0, 0], frame(0x80, 300)].concat();
        far.write_all(&bytes).await.unwrap();
        assert_eq!(next_len(&socket).await, 0);
        assert!(socket.lock().grown);
        assert_eq!(next_len(&socket).await, 500);
        assert!(!socket.lock().grown);
    }

    #[tokio::test]
    async fn a_frame_does_not_wake_a_sender_that_does_not_wait() {
        let (socket, mut far) = socket(20_000).await;
        let (sender, receiver) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        let wakers = [&sender, &receiver].map(|woken| Waker::from(Arc::clone(woken)));
        let [mut sending, mut receiving] = wakers.each_ref().map(Context::from_waker);

        socket.write(WsMessage::text("all of it goes at once")).unwrap();
        assert!(matches!(socket.poll_flush(&mut sending), Poll::Ready(Ok(()))));
        assert!(socket.poll_next(&mut receiving).is_pending());
        far.write_all(&frame(0x81, 100)).await.unwrap();
        assert!(receiver.0.load(Ordering::Relaxed));
        assert!(!sender.0.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_release_loses_no_unwritten_bytes() {
        let (socket, mut far) = socket(20_000).await;
        socket.write(WsMessage::text("y".repeat(50_000))).unwrap();
        far.write_all(&frame(0x81, 10_000)).await.unwrap();

        let sender = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&sender));
        assert!(socket.poll_flush(&mut Context::from_waker(&waker)).is_pending());
        sender.0.store(false, Ordering::Relaxed);
        assert_eq!(next_len(&socket).await, 10_000);
        assert!(socket.lock().grown, "there is more to write");
        assert!(sender.0.load(Ordering::Relaxed), "the receiver took the sender's place");

        let mut payload = vec![0; 50_000];
        let reading = async {
            far.read_exact(&mut [0; 4]).await.unwrap();
            far.read_exact(&mut payload).await.unwrap();
        };
        let (sent, ()) = tokio::join!(poll_fn(|cx| socket.poll_flush(cx)), reading);
        sent.unwrap();
        assert!(payload.iter().all(|byte| *byte == b'y'));
        assert!(!socket.lock().grown, "released as soon as everything was written");
    }

    /// The operating system's answer when a peer does not acknowledge bytes in time.
    struct Vanished;

    impl AsyncRead for Vanished {
        fn poll_read(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            _buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        }
    }

    impl AsyncWrite for Vanished {
        fn poll_write(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            _buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_peer_that_has_vanished_is_counted() {
        let reader = FrameReader::new(Vanished, Vec::new(), Arc::default());
        let ws = WebSocketStream::from_raw_socket(reader, Role::Server, None).await;
        let counters = Arc::<TransportCounters>::default();
        let socket = Socket::new(ws, Permit::default(), Arc::clone(&counters));
        let end = poll_fn(|cx| socket.poll_next(cx)).await;
        assert!(matches!(end, Some(Err(WsError::Io(_)))), "{end:?}");
        assert_eq!(counters.snapshot().peers_lost, 1);
        assert!(!socket.cut_off(), "nothing had begun");
    }

    #[tokio::test]
    async fn a_closing_socket_is_not_renewed() {
        let (socket, mut far) = socket(200_000).await;
        socket.write(WsMessage::Close(None)).unwrap();
        far.write_all(&frame(0x81, 60_000)).await.unwrap();
        assert_eq!(next_len(&socket).await, 60_000);
        let again = socket.write(WsMessage::text("after the close"));
        assert!(matches!(again, Err(WsError::Protocol(ProtocolError::SendAfterClosing))));
    }
}
