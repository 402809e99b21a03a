//! The receiving half: frames into messages, and the end of a peer that breaks the rules.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use downbeat_protocol::Limits;
use downbeat_protocol::json::decode_frame;
use downbeat_transport::net::{Io, Linger, decode_aside};
use downbeat_transport::{Incoming, Receiver, Rejection, TransportError};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message as WsMessage};

use crate::options::{READ_BUFFER_BYTES, WsOptions};
use crate::sender::close_frame;
use crate::socket::{Socket, transport_error};

/// How long a peer that broke the rules may take to receive the reason, and to stop sending.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for one that was silent.
const SILENT_PEER_TIMEOUT: Duration = Duration::from_millis(100);

pub(crate) struct WsReceiver<S> {
    socket: Arc<Socket<S>>,
    limits: Limits,
    max_frame_bytes: usize,
    stalled_frame_timeout: Duration,
    silence: Option<Silence>,
    state: State,
}

/// How long the peer may be silent, and what wakes us then.
struct Silence {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
}

/// What ends the wait for a frame.
enum Step {
    Next(Option<Result<WsMessage, WsError>>),
    Stalled,
    Silent(Duration),
}

enum State {
    Open,
    /// The peer has closed; the library's answer is on its way.
    Answering,
    Failing(LastWord),
    Ended,
}

/// What remains to be done when the peer broke the rules: tell it why, with a close frame, and read
/// on for a moment, because closing a socket that holds unread bytes would take the reason back.
struct LastWord {
    error: TransportError,
    deadline: Instant,
    flushed: bool,
    linger: Linger,
}

impl<S: Io> WsReceiver<S> {
    /// `silence` is how long the peer may be silent, if it is to show signs of life.
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
            state: State::Open,
        }
    }

    /// The library's next frame, or that the one which has begun does not come on, or that nothing
    /// comes at all.
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
            // Only frames that come in several parts get a timer.
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

    /// What one step of the library means: a frame, or (after a change of state) none yet.
    fn step(
        &mut self,
        next: Option<Result<WsMessage, WsError>>,
    ) -> Result<Option<Incoming>, TransportError> {
        match next {
            None => {
                self.state = State::Ended;
                Ok(None)
            }
            Some(Ok(WsMessage::Text(text))) => Ok(Some(self.decode(text.into()))),
            Some(Ok(WsMessage::Binary(bytes))) => {
                self.socket.counters().frames_binary.increment();
                Ok(Some(Incoming {
                    rejected: vec![Rejection::WrongFrame("binary")],
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
                self.socket.begin_close();
                self.state = State::Answering;
                Ok(None)
            }
            // Reading never brings a raw frame.
            Some(Ok(WsMessage::Frame(_))) => Ok(None),
            Some(Err(error)) => self.failed(error),
        }
    }

    fn decode(&self, frame: Bytes) -> Incoming {
        let bytes = frame.len();
        // What is kept of a small frame must not hold the buffer that it shares with its
        // neighbours.
        let frame = if bytes <= READ_BUFFER_BYTES { Bytes::copy_from_slice(&frame) } else { frame };
        match decode_aside(bytes, || decode_frame(&frame, &self.limits)) {
            Ok(decoded) => {
                if decoded.batched {
                    self.socket.set_peer_batches();
                }
                let rejected = decoded.rejected.into_iter().map(Rejection::from).collect();
                Incoming { messages: decoded.messages, rejected, bytes }
            }
            Err(error) => Incoming { messages: Vec::new(), rejected: vec![error.into()], bytes },
        }
    }

    fn failed(&mut self, error: WsError) -> Result<Option<Incoming>, TransportError> {
        let closing = self.socket.close_deadline().is_some();
        let counters = self.socket.counters();
        if self.socket.cut_off() {
            counters.frames_cut_off.increment();
        }
        self.state = State::Ended;
        match error {
            WsError::Capacity(CapacityError::MessageTooLong { .. }) => {
                counters.frames_too_large.increment();
                let max = self.max_frame_bytes;
                let text = format!("a frame of more than {max} bytes");
                self.fail(TransportError::FrameTooLarge { max }, CloseCode::Size, &text);
                let rejected = vec![Rejection::TooLarge { max }];
                Ok(Some(Incoming { rejected, ..Incoming::default() }))
            }
            WsError::Utf8(_) => {
                counters.frames_not_utf8.increment();
                let text = "a text frame that is not UTF-8";
                self.fail(TransportError::Protocol(text.to_owned()), CloseCode::Invalid, text);
                Ok(None)
            }
            WsError::Io(_) if self.socket.too_fragmented() => {
                counters.frames_fragmented.increment();
                let text = "a message of too many short fragments";
                self.fail(TransportError::Protocol(text.to_owned()), CloseCode::Policy, text);
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

    /// Ends the connection of a peer that does not finish what it has begun.
    fn give_up(&mut self) {
        self.socket.counters().frames_too_slow.increment();
        let limit = self.stalled_frame_timeout;
        let error = TransportError::TimedOut { what: "receiving the rest of a frame", limit };
        self.fail(error, CloseCode::Policy, "the rest of a frame came too slowly");
    }

    /// Ends the connection to a server that shows no sign of life.
    fn give_up_silent(&mut self, limit: Duration) {
        self.socket.counters().peers_lost.increment();
        let text = "no sign of life came in time";
        self.fail(TransportError::Silent { limit }, CloseCode::Away, text);
        // It is hardly there to read it, and connecting again is worth more.
        if let State::Failing(last) = &mut self.state {
            last.deadline = Instant::now() + SILENT_PEER_TIMEOUT;
        }
    }

    fn fail(&mut self, error: TransportError, code: CloseCode, text: &str) {
        // When we had closed already there is nothing to add; the rest is as with any other.
        if let Err(error) =
            self.socket.write(WsMessage::Close(Some(close_frame(code.into(), text))))
        {
            tracing::debug!(%error, "no reason could be given to a peer that broke the rules");
        }
        self.state = State::Failing(LastWord {
            error,
            deadline: Instant::now() + LAST_WORD_TIMEOUT,
            flushed: false,
            linger: Linger::new(),
        });
    }
}

impl Silence {
    /// Whether the peer, heard at this time, has been silent for too long.
    fn poll(&mut self, heard: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(heard) = heard else { return Poll::Pending };
        // Not set back at every frame: an early end is looked at again.
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

impl LastWord {
    fn poll<S: Io>(&mut self, socket: &Socket<S>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.flushed && socket.poll_end(cx).is_ready() {
            self.flushed = true;
            socket.wake_sender();
        }
        // Read also while the reason waits: a peer that only writes would never take it.
        let drained = self.linger.poll(cx, |cx, buf| socket.poll_raw_read(cx, buf));
        if self.flushed { drained } else { Poll::Pending }
    }
}

#[async_trait]
impl<S: Io> Receiver for WsReceiver<S> {
    async fn receive(&mut self) -> Result<Option<Incoming>, TransportError> {
        loop {
            match &mut self.state {
                State::Ended => return Ok(None),
                State::Answering => {
                    tokio::select! {
                        biased;
                        () = poll_fn(|cx| self.socket.poll_end(cx)) => {}
                        () = self.socket.close_timed_out() => {}
                    }
                    self.socket.wake_sender();
                    self.state = State::Ended;
                }
                State::Failing(last) => {
                    let deadline = last.deadline;
                    let telling = poll_fn(|cx| last.poll(&self.socket, cx));
                    // Without time left the peer does not learn the reason; the end is the same.
                    let _ = tokio::time::timeout_at(deadline, telling).await;
                    self.socket.wake_sender();
                    if let State::Failing(last) = std::mem::replace(&mut self.state, State::Ended) {
                        return Err(last.error);
                    }
                }
                State::Open => {
                    let socket = Arc::clone(&self.socket);
                    let step = tokio::select! {
                        biased;
                        step = self.next() => step,
                        () = socket.close_timed_out() => Step::Next(None),
                    };
                    let frame = match step {
                        Step::Next(next) => self.step(next)?,
                        Step::Stalled => {
                            self.give_up();
                            None
                        }
                        Step::Silent(limit) => {
                            self.give_up_silent(limit);
                            None
                        }
                    };
                    if frame.is_some() {
                        return Ok(frame);
                    }
                }
            }
        }
    }
}

impl<S> Drop for WsReceiver<S> {
    fn drop(&mut self) {
        self.socket.wake_sender();
    }
}
