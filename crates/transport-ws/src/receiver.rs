//! The receiver: turns frames into messages, and closes on peers that break the rules.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use downbeat_protocol::Limits;
use downbeat_protocol::json::decode_frame;
use downbeat_transport::net::Io;
use downbeat_transport::net::internal::{
    ClosingStream, FinalClose, LAST_WORD_TIMEOUT, ReceiveState, decode_blocking,
};
use downbeat_transport::{DroppedFrame, Incoming, Receiver, TransportError};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message as WsMessage};

use crate::frame_reader::GivenUp;
use crate::options::{READ_BUFFER_BYTES, WsOptions};
use crate::sender::close_frame;
use crate::socket::{Socket, transport_error};

/// The time for the close to a silent peer. It probably does not read it, and the caller should
/// reconnect soon.
const SILENT_PEER_TIMEOUT: Duration = Duration::from_millis(100);

pub(crate) struct WsReceiver<S> {
    socket: Arc<Socket<S>>,
    limits: Limits,
    max_frame_bytes: usize,
    stalled_frame_timeout: Duration,
    silence: Option<Silence>,
    state: ReceiveState,
}

/// The limit on the peer's silence, and its timer.
struct Silence {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
}

/// What a receiver waits for.
enum Step {
    Next(Option<Result<WsMessage, WsError>>),
    Stalled,
    Silent(Duration),
}

impl<S: Io> WsReceiver<S> {
    /// `silence` is the limit on the peer's silence, if the peer sends keepalives.
    pub(crate) fn new(
        socket: Arc<Socket<S>>,
        options: &WsOptions,
        silence: Option<Duration>,
    ) -> Self {
        let silence =
            silence.map(|limit| Silence { limit, timer: Box::pin(tokio::time::sleep(limit)) });
        Self {
            socket,
            limits: options.limits,
            max_frame_bytes: options.max_frame_bytes,
            stalled_frame_timeout: options.stalled_frame_timeout,
            silence,
            state: ReceiveState::Open,
        }
    }

    /// Waits for the next frame, a stalled frame, or the limit on silence.
    async fn next(&mut self) -> Step {
        let mut stalled: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(next) = self.socket.poll_next(cx) {
                return Poll::Ready(Step::Next(next));
            }
            if let Some(silence) = &mut self.silence
                && silence.poll(self.socket.heard(), cx).is_ready()
            {
                return Poll::Ready(Step::Silent(silence.limit));
            }
            // Only frames that arrive in several parts get a timer.
            let Some(since) = self.socket.stalled_since() else {
                stalled = None;
                return Poll::Pending;
            };
            let deadline = since + self.stalled_frame_timeout;
            let timer = match &mut stalled {
                Some(timer) if timer.deadline() == deadline => timer,
                stalled => stalled.insert(Box::pin(tokio::time::sleep_until(deadline))),
            };
            timer.as_mut().poll(cx).map(|()| Step::Stalled)
        })
        .await
    }

    /// Handles one step of the library: returns a frame, or changes the state.
    fn step(
        &mut self,
        next: Option<Result<WsMessage, WsError>>,
    ) -> Result<Option<Incoming>, TransportError> {
        match next {
            None => {
                self.state = ReceiveState::Ended;
                Ok(None)
            }
            Some(Ok(WsMessage::Text(text))) => Ok(Some(self.decode(text.into()))),
            Some(Ok(WsMessage::Binary(bytes))) => {
                self.socket.counters().frames_binary.increment();
                Ok(Some(Incoming {
                    rejected: vec![DroppedFrame::WrongFrame("binary")],
                    bytes: bytes.len(),
                    ..Incoming::default()
                }))
            }
            Some(Ok(WsMessage::Ping(bytes))) => {
                self.socket.counters().pings.increment();
                Ok(Some(Incoming { bytes: bytes.len(), ..Incoming::default() }))
            }
            Some(Ok(WsMessage::Pong(bytes))) => {
                Ok(Some(Incoming { bytes: bytes.len(), ..Incoming::default() }))
            }
            Some(Ok(WsMessage::Close(frame))) => {
                if let Some(CloseFrame { code, reason }) = frame {
                    tracing::debug!(code = u16::from(code), %reason, "the peer closes");
                }
                self.socket.close_timer().start();
                self.state = ReceiveState::Answering;
                Ok(None)
            }
            // The library never reads a raw frame.
            Some(Ok(WsMessage::Frame(_))) => Ok(None),
            Some(Err(error)) => self.failed(error),
        }
    }

    fn decode(&self, frame: Bytes) -> Incoming {
        let bytes = frame.len();
        // Copied, so that messages of a small frame do not keep a buffer alive that it shares with
        // other frames.
        let frame = if bytes <= READ_BUFFER_BYTES { Bytes::copy_from_slice(&frame) } else { frame };
        match decode_blocking(bytes, || decode_frame(&frame, &self.limits)) {
            Ok(decoded) => {
                if decoded.batched {
                    self.socket.set_peer_batches();
                }
                let rejected = decoded.rejected.into_iter().map(DroppedFrame::from).collect();
                Incoming { messages: decoded.messages, rejected, bytes }
            }
            Err(error) => Incoming { messages: Vec::new(), rejected: vec![error.into()], bytes },
        }
    }

    fn failed(&mut self, error: WsError) -> Result<Option<Incoming>, TransportError> {
        let closing = self.socket.close_timer().has_started();
        let counters = self.socket.counters();
        if self.socket.cut_off() {
            counters.frames_cut_off.increment();
        }
        let given_up = self.socket.given_up();
        self.state = ReceiveState::Ended;
        match error {
            WsError::Capacity(CapacityError::MessageTooLong { .. }) => {
                counters.frames_too_large.increment();
                let max = self.max_frame_bytes;
                let text = format!("a frame of more than {max} bytes");
                self.fail(TransportError::FrameTooLarge { max }, CloseCode::Size, &text);
                let rejected = vec![DroppedFrame::TooLarge { max }];
                Ok(Some(Incoming { rejected, ..Incoming::default() }))
            }
            WsError::Utf8(_) => {
                counters.frames_not_utf8.increment();
                let text = "a text frame that is not UTF-8";
                self.fail(TransportError::Protocol(text.to_owned()), CloseCode::Invalid, text);
                Ok(None)
            }
            WsError::Io(_) if given_up == Some(GivenUp::Fragments) => {
                counters.frames_fragmented.increment();
                let text = "a message of too many short fragments";
                self.fail(TransportError::Protocol(text.to_owned()), CloseCode::Policy, text);
                Ok(None)
            }
            WsError::Io(_) if given_up == Some(GivenUp::Displaced) => {
                counters.frames_displaced.increment();
                let text = "the server is short of memory for incomplete messages";
                self.fail(TransportError::Displaced, CloseCode::Again, text);
                Ok(None)
            }
            WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) | WsError::Io(_)
                if closing =>
            {
                Ok(None)
            }
            WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) | WsError::Io(_) => {
                Err(transport_error(error))
            }
            other => {
                counters.frames_malformed.increment();
                let text = other.to_string();
                self.fail(TransportError::Protocol(text.clone()), CloseCode::Protocol, &text);
                Ok(None)
            }
        }
    }

    /// Closes on a peer that does not finish a frame.
    fn fail_stalled(&mut self) {
        self.socket.counters().frames_too_slow.increment();
        let limit = self.stalled_frame_timeout;
        let error = TransportError::TimedOut { what: "receiving the rest of a frame", limit };
        self.fail(error, CloseCode::Policy, "the rest of a frame came too slowly");
    }

    /// Closes on a server that sends no keepalives.
    fn fail_silent(&mut self, limit: Duration) {
        self.socket.counters().peers_lost.increment();
        let text = "the peer sent nothing in time, not even a keep-alive";
        let error = TransportError::Silent { limit };
        self.fail_within(SILENT_PEER_TIMEOUT, error, CloseCode::Away, text);
    }

    fn fail(&mut self, error: TransportError, code: CloseCode, text: &str) {
        self.fail_within(LAST_WORD_TIMEOUT, error, code, text);
    }

    fn fail_within(&mut self, time: Duration, error: TransportError, code: CloseCode, text: &str) {
        // After our own close there is no second close frame to write.
        if let Err(error) = self.socket.write(WsMessage::Close(Some(close_frame(code, text)))) {
            tracing::debug!(%error, "no close frame for a peer that broke the rules");
        }
        self.state = ReceiveState::Failing(FinalClose::new(error, time));
    }
}

impl Silence {
    /// Ready when the peer, which was last heard at this time, has been silent for too long.
    fn poll(&mut self, heard: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(heard) = heard else { return Poll::Pending };
        // The timer is not reset at every frame; when it fires early, the loop sets it again.
        while self.timer.as_mut().poll(cx).is_ready() {
            let deadline = heard + self.limit;
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[async_trait]
impl<S: Io> Receiver for WsReceiver<S> {
    async fn receive(&mut self) -> Result<Option<Incoming>, TransportError> {
        loop {
            let socket = Arc::clone(&self.socket);
            if let Some(end) = self.state.finish(&*socket).await {
                return end;
            }
            let step = tokio::select! {
                biased;
                step = self.next() => step,
                () = socket.close_timer().elapsed() => Step::Next(None),
            };
            let frame = match step {
                Step::Next(next) => self.step(next)?,
                Step::Stalled => {
                    self.fail_stalled();
                    None
                }
                Step::Silent(limit) => {
                    self.fail_silent(limit);
                    None
                }
            };
            if frame.is_some() {
                return Ok(frame);
            }
        }
    }
}

impl<S> Drop for WsReceiver<S> {
    fn drop(&mut self) {
        self.socket.wake_sender();
    }
}
