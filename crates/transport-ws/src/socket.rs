//! One WebSocket, shared between its sending and its receiving half.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use downbeat_transport::net::{Io, Pass};
use downbeat_transport::{TransportCounters, TransportError};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Message as WsMessage, Role, WebSocketConfig};

use crate::gate::FrameGate;

/// How long the closing handshake may take once one side has begun it.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A frame over this leaves a buffer behind that an idle connection should not keep.
const RELEASE_ABOVE: usize = 8 << 10;

pub(crate) struct Socket<S> {
    inner: Mutex<Inner<S>>,
    /// Wakes the receiver when our side begins to close.
    closing: Notify,
    /// Whether the peer has shown that it takes several messages in a frame.
    peer_batches: AtomicBool,
    counters: Arc<TransportCounters>,
    /// Kept as long as the connection lasts.
    _pass: Pass,
}

struct Inner<S> {
    /// `None` only if making it anew went wrong, which counts as closed.
    ws: Option<WebSocketStream<FrameGate<S>>>,
    config: WebSocketConfig,
    /// Whether a frame has left a large buffer behind.
    grown: bool,
    /// Whether one side has closed or failed, as far as the library has seen it.
    ending: bool,
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
    pub(crate) fn new(
        ws: WebSocketStream<FrameGate<S>>,
        pass: Pass,
        counters: Arc<TransportCounters>,
    ) -> Self {
        let inner = Inner {
            config: *ws.get_config(),
            ws: Some(ws),
            grown: false,
            ending: false,
            sender: None,
            close_deadline: None,
        };
        Self {
            inner: Mutex::new(inner),
            closing: Notify::new(),
            peer_batches: AtomicBool::new(false),
            counters,
            _pass: pass,
        }
    }

    pub(crate) fn counters(&self) -> &TransportCounters {
        &self.counters
    }

    /// Counts an error that means that the peer has been silent for too long.
    fn observe(&self, error: Option<&WsError>) {
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
            self.observe(Some(error));
        }
        match &poll {
            Some(Ok(WsMessage::Close(_)) | Err(_)) | None => inner.ending = true,
            Some(Ok(message)) => {
                inner.grown |= message.len() > RELEASE_ABOVE;
                inner.release(cx);
            }
        }
        Poll::Ready(poll)
    }

    /// Since when an unfinished message has hardly come nearer, if one has begun. For the
    /// receiver, after a [`poll_next`](Self::poll_next) that brought nothing.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.lock().ws.as_ref().and_then(|ws| ws.get_ref().stalled_since())
    }

    /// When something has come the last time, of a connection that we made.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.lock().ws.as_ref().and_then(|ws| ws.get_ref().heard())
    }

    /// Whether the peer has cut a message into more fragments than are accepted.
    pub(crate) fn too_fragmented(&self) -> bool {
        self.lock().ws.as_ref().is_some_and(|ws| ws.get_ref().too_fragmented())
    }

    /// Whether the stream has ended in the middle of a frame.
    pub(crate) fn cut_off(&self) -> bool {
        self.lock().ws.as_ref().is_some_and(|ws| ws.get_ref().cut_off())
    }

    /// Puts a frame into the write buffer. [`WsError::WriteBufferFull`] is the only error after
    /// which the same frame may be tried again, when [`poll_flush`](Self::poll_flush) is done.
    pub(crate) fn write(&self, frame: WsMessage) -> Result<(), WsError> {
        let mut inner = self.lock();
        inner.grown |= frame.len() > RELEASE_ABOVE;
        inner.ending |= frame.is_close();
        Pin::new(inner.ws()?).start_send(frame)
    }

    /// Whether the write buffer has room. For the sender.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        let mut inner = self.lock();
        let poll = Pin::new(inner.ws()?).poll_ready(cx);
        inner.sender = poll.is_pending().then(|| cx.waker().clone());
        if let Poll::Ready(result) = &poll {
            self.observe(result.as_ref().err());
        }
        poll
    }

    /// Whether the write buffer has gone to the operating system. For the sender.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        let mut inner = self.lock();
        // Usually everything goes at once. The library would remember the waker all the same, and
        // wake the sender when the next frame of the peer comes.
        let mut nobody = Context::from_waker(Waker::noop());
        let mut poll = Pin::new(inner.ws()?).poll_flush(&mut nobody);
        if poll.is_pending() {
            poll = Pin::new(inner.ws()?).poll_flush(cx);
        }
        inner.sender = poll.is_pending().then(|| cx.waker().clone());
        match &poll {
            Poll::Ready(Ok(())) => inner.release(cx),
            Poll::Ready(Err(error)) => self.observe(Some(error)),
            Poll::Pending => {}
        }
        poll
    }

    /// Whether everything has gone to the operating system that will ever be written, which then
    /// tells the peer that no more comes. For the receiver, after a close frame: whoever calls this
    /// calls [`wake_sender`](Self::wake_sender) when done.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        let Ok(ws) = inner.ws() else { return Poll::Ready(()) };
        let flushed = ready!(Pin::new(&mut *ws).poll_flush(cx));
        // Tried once: what cannot be told now is told by the end of the socket.
        let shut_down = Pin::new(ws.get_mut()).poll_shutdown(cx);
        tracing::trace!(?flushed, ?shut_down, "the last bytes are written");
        Poll::Ready(())
    }

    /// Reads past the library, to throw away what a peer goes on sending after we failed it.
    pub(crate) fn poll_raw_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.lock().ws() {
            Ok(ws) => Pin::new(ws.get_mut()).poll_read(cx, buf),
            Err(_) => Poll::Ready(Ok(())),
        }
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

impl<S: Io> Inner<S> {
    fn ws(&mut self) -> Result<&mut WebSocketStream<FrameGate<S>>, WsError> {
        self.ws.as_mut().ok_or(WsError::AlreadyClosed)
    }

    /// Lets go of the buffers that large frames have left behind, in a moment when they are empty
    /// and nothing else is under way: makes the library's state anew on the same stream.
    fn release(&mut self, cx: &mut Context<'_>) {
        if !self.grown || self.ending {
            return;
        }
        let Some(mut ws) = self.ws.take_if(|ws| ws.get_ref().between_messages()) else { return };
        let flushed = Pin::new(&mut ws).poll_flush(cx);
        // Its place was taken just now, and its waker would be lost with the old state.
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
        if !matches!(flushed, Poll::Ready(Ok(()))) {
            self.ws = Some(ws);
            return;
        }
        self.grown = false;
        let stream = ws.into_inner();
        let anew = WebSocketStream::from_raw_socket(stream, Role::Server, Some(self.config));
        if let Poll::Ready(ws) = pin!(anew).poll(cx) {
            self.ws = Some(ws);
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

    /// A server's socket, and the stream at its other end, which takes this many bytes unread.
    async fn socket(room: usize) -> (Socket<DuplexStream>, DuplexStream) {
        let (near, far) = duplex(room);
        let gate = FrameGate::new(near, Vec::new());
        let ws = WebSocketStream::from_raw_socket(gate, Role::Server, None).await;
        (Socket::new(ws, Pass::default(), Arc::default()), far)
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
    async fn a_sender_that_waits_for_nothing_is_not_woken_by_a_frame() {
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
    async fn what_waits_to_be_written_is_not_lost_by_a_release() {
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

    /// What the operating system says when a peer has not acknowledged anything for too long.
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
        let gate = FrameGate::new(Vanished, Vec::new());
        let ws = WebSocketStream::from_raw_socket(gate, Role::Server, None).await;
        let counters = Arc::<TransportCounters>::default();
        let socket = Socket::new(ws, Pass::default(), Arc::clone(&counters));
        let end = poll_fn(|cx| socket.poll_next(cx)).await;
        assert!(matches!(end, Some(Err(WsError::Io(_)))), "{end:?}");
        assert_eq!(counters.snapshot().peers_lost, 1);
        assert!(!socket.cut_off(), "nothing had begun");
    }

    #[tokio::test]
    async fn a_socket_that_is_closing_is_left_as_it_is() {
        let (socket, mut far) = socket(200_000).await;
        socket.write(WsMessage::Close(None)).unwrap();
        far.write_all(&frame(0x81, 60_000)).await.unwrap();
        assert_eq!(next_len(&socket).await, 60_000);
        let again = socket.write(WsMessage::text("after the close"));
        assert!(matches!(again, Err(WsError::Protocol(ProtocolError::SendAfterClosing))));
    }
}
