//! The receiver: turns frames into messages, and closes on peers that break the rules.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use downbeat_protocol::Limits;
use downbeat_protocol::binary::decode_frame;
use downbeat_transport::net::Io;
use downbeat_transport::net::internal::{
    ClosingStream, Displaced, FREE_BYTES, FinalClose, LAST_WORD_TIMEOUT, ReceiveShare,
    ReceiveState, StallDetector, decode_blocking,
};
use downbeat_transport::{
    CloseCode, CloseReason, DroppedFrame, Incoming, Receiver, TransportError,
};
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep};

use crate::frame::{self, BadHead, HEAD_BYTES, Kind};
use crate::options::TcpOptions;
use crate::shared_stream::SharedStream;

/// The bytes of one read, on the stack.
const READ_BYTES: usize = 16 << 10;
/// Frames up to this size are copied, so that their messages do not keep a buffer alive that they
/// share with other frames.
const COPY_BELOW: usize = 4 << 10;

pub(crate) struct TcpReceiver<S> {
    stream: Arc<SharedStream<S>>,
    settings: Settings,
    /// Received bytes that are not a whole frame yet.
    buffer: BytesMut,
    /// The memory for the buffer, and for the last frame.
    share: ReceiveShare,
    stall: StallDetector,
    /// When the last bytes arrived.
    heard: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    state: ReceiveState,
}

/// The options for receiving.
struct Settings {
    limits: Limits,
    max_frame_bytes: usize,
    silence_timeout: Option<Duration>,
    stalled_frame_timeout: Duration,
}

/// What a receiver waits for.
enum Step {
    Frame(Kind, Bytes),
    Bad(BadHead),
    End,
    Broken(io::Error),
    Silent,
    Stalled,
    Displaced,
}

impl<S: Io> TcpReceiver<S> {
    pub(crate) fn new(stream: Arc<SharedStream<S>>, options: &TcpOptions) -> Self {
        let silence_timeout = (!options.keep_alive.is_zero()).then_some(options.silence_timeout);
        let settings = Settings {
            limits: options.limits,
            max_frame_bytes: options.max_frame_bytes,
            silence_timeout,
            stalled_frame_timeout: options.stalled_frame_timeout,
        };
        Self {
            stream,
            settings,
            buffer: BytesMut::new(),
            share: ReceiveShare::new(Arc::clone(&options.receive_budget)),
            stall: StallDetector::default(),
            heard: Instant::now(),
            timer: None,
            state: ReceiveState::Open,
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            match self.take_frame() {
                Err(bad) => return Poll::Ready(Step::Bad(bad)),
                Ok(Some((kind, payload))) => return Poll::Ready(Step::Frame(kind, payload)),
                Ok(None) => {}
            }
            // Only for the bytes that are there: otherwise short frames would take a share too.
            match self.share.poll_reserve(self.buffer.len(), cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Displaced)) => return Poll::Ready(Step::Displaced),
                Poll::Pending => {
                    // The peer is not to blame for this pause.
                    self.stall.reset();
                    self.heard = Instant::now();
                    return Poll::Pending;
                }
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Step::End),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Step::Broken(error)),
                Poll::Pending if self.share.wait_for_sender(cx).is_err() => {
                    return Poll::Ready(Step::Displaced);
                }
                Poll::Pending => return self.poll_timer(cx),
            }
        }
    }

    /// The next frame, if it is complete.
    fn take_frame(&mut self) -> Result<Option<(Kind, Bytes)>, BadHead> {
        let Some(head) = self.buffer.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let (kind, length) = frame::parse_head(*head, self.settings.max_frame_bytes)?;
        if self.buffer.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        let payload = self.buffer.split_to(length);
        let payload =
            if length <= COPY_BELOW { Bytes::copy_from_slice(&payload) } else { payload.freeze() };
        if self.buffer.is_empty() {
            // Idle connections have no buffer.
            self.buffer = BytesMut::new();
        }
        self.stall.reset();
        self.share.complete();
        Ok(Some((kind, payload)))
    }

    /// Reads into the buffer; 0 at the end of the stream. The buffer grows with the received bytes,
    /// not with an announced length.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; READ_BYTES];
        let mut buf = ReadBuf::new(&mut bytes);
        match self.stream.poll_read(cx, &mut buf) {
            Poll::Ready(result) => result?,
            Poll::Pending => {
                self.stall.read_pending(!self.buffer.is_empty());
                return Poll::Pending;
            }
        }
        let count = buf.filled().len();
        self.buffer.extend_from_slice(buf.filled());
        self.stall.received(count);
        self.heard = Instant::now();
        Poll::Ready(Ok(count))
    }

    /// Ready when the peer has been silent for too long, or does not finish a frame.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let silent = self.settings.silence_timeout.map(|limit| self.heard + limit);
        let stalled =
            self.stall.stalled_since().map(|since| since + self.settings.stalled_frame_timeout);
        loop {
            let Some(deadline) = silent.into_iter().chain(stalled).min() else {
                return Poll::Pending;
            };
            let timer =
                self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            // The timer is not reset at every frame; when it fires early, the loop sets it again.
            if timer.deadline() > deadline || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if stalled.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(Step::Stalled);
            }
            if silent.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(Step::Silent);
            }
        }
    }

    /// Handles one step: returns a frame, or changes the state.
    fn step(&mut self, step: Step) -> Result<Option<Incoming>, TransportError> {
        match step {
            Step::Frame(Kind::KeepAlive, _) => {
                Ok(Some(Incoming { bytes: HEAD_BYTES, ..Incoming::default() }))
            }
            Step::Frame(Kind::Messages, payload) => Ok(Some(self.decode(&payload))),
            Step::Frame(Kind::Close, payload) => {
                let reason = frame::parse_close(&payload);
                tracing::debug!(?reason, "the peer closes");
                self.stream.close_timer().start();
                self.stream.take_over(None);
                self.state = ReceiveState::Answering;
                Ok(None)
            }
            Step::Bad(BadHead::TooLarge) => Ok(Some(self.too_large())),
            Step::Bad(bad) => {
                self.stream.counters().frames_malformed.increment();
                let text = bad.to_string();
                self.fail(TransportError::Protocol(text.clone()), CloseCode::ProtocolError, &text);
                Ok(None)
            }
            Step::End => self.ended(None),
            Step::Broken(error) => self.ended(Some(error)),
            Step::Silent => {
                self.stream.counters().peers_lost.increment();
                let limit = self.settings.silence_timeout.unwrap_or_default();
                self.fail(
                    TransportError::Silent { limit },
                    CloseCode::GoingAway,
                    "the peer sent nothing in time, not even a keep-alive",
                );
                Ok(None)
            }
            Step::Stalled => {
                self.stream.counters().frames_too_slow.increment();
                let limit = self.settings.stalled_frame_timeout;
                let what = "receiving the rest of a frame";
                let error = TransportError::TimedOut { what, limit };
                let text = "the rest of a frame came too slowly";
                self.fail(error, CloseCode::PolicyViolation, text);
                Ok(None)
            }
            Step::Displaced => {
                self.displaced();
                Ok(None)
            }
        }
    }

    /// Closes on a peer whose message occupied memory for which others waited.
    fn displaced(&mut self) {
        self.stream.counters().frames_displaced.increment();
        let text = "the server is short of memory for incomplete messages";
        self.fail(TransportError::Displaced, CloseCode::TryAgainLater, text);
    }

    fn decode(&self, payload: &Bytes) -> Incoming {
        let bytes = HEAD_BYTES + payload.len();
        match decode_blocking(bytes, || decode_frame(payload, &self.settings.limits)) {
            Ok(decoded) => {
                let rejected = decoded.rejected.into_iter().map(DroppedFrame::from).collect();
                Incoming { messages: decoded.messages, rejected, bytes }
            }
            Err(error) => Incoming { messages: Vec::new(), rejected: vec![error.into()], bytes },
        }
    }

    fn too_large(&mut self) -> Incoming {
        self.stream.counters().frames_too_large.increment();
        let max = self.settings.max_frame_bytes;
        let text = format!("a frame of more than {max} bytes");
        self.fail(TransportError::FrameTooLarge { max }, CloseCode::TooLarge, &text);
        Incoming { rejected: vec![DroppedFrame::TooLarge { max }], ..Incoming::default() }
    }

    /// Handles the end of the stream without a close frame.
    fn ended(&mut self, error: Option<io::Error>) -> Result<Option<Incoming>, TransportError> {
        self.state = ReceiveState::Ended;
        self.stream.take_over(None);
        if !self.buffer.is_empty() {
            self.stream.counters().frames_cut_off.increment();
            self.buffer = BytesMut::new();
        }
        // After our close any end of the stream is in order.
        if self.stream.close_timer().has_started() {
            return Ok(None);
        }
        Err(error.map_or(TransportError::Disconnected, TransportError::from))
    }

    fn fail(&mut self, error: TransportError, code: CloseCode, text: &str) {
        self.stream.take_over(Some(frame::close(&CloseReason::new(code, text))));
        self.buffer = BytesMut::new();
        self.share.release();
        self.state = ReceiveState::Failing(FinalClose::new(error, LAST_WORD_TIMEOUT));
    }
}

#[async_trait]
impl<S: Io> Receiver for TcpReceiver<S> {
    async fn receive(&mut self) -> Result<Option<Incoming>, TransportError> {
        // The caller is done with the last frame. The beginning of the next one is short, unless an
        // earlier call was dropped within it.
        if self.buffer.len() <= FREE_BYTES {
            self.share.release();
        }
        loop {
            let stream = Arc::clone(&self.stream);
            if let Some(end) = self.state.finish(&*stream).await {
                return end;
            }
            let step = tokio::select! {
                biased;
                step = poll_fn(|cx| self.poll_step(cx)) => step,
                () = stream.close_timer().elapsed() => {
                    self.state = ReceiveState::Ended;
                    continue;
                }
            };
            let frame = self.step(step)?;
            if frame.is_some() {
                return Ok(frame);
            }
        }
    }
}
