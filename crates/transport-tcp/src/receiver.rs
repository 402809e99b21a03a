//! The receiving half: frames into messages, and the end of a peer that breaks the rules.

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
use downbeat_transport::net::{Io, Linger, Progress, decode_aside};
use downbeat_transport::{CloseCode, CloseReason, Incoming, Receiver, Rejection, TransportError};
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep};

use crate::frame::{self, BadHead, HEAD_BYTES, Kind};
use crate::link::Link;
use crate::options::TcpOptions;

/// What is read from the socket at once. On the stack while reading.
const READ_BYTES: usize = 16 << 10;
/// What is kept of a frame up to this size must not hold the buffer that it shares with its
/// neighbours.
const COPY_BELOW: usize = 4 << 10;
/// How long a peer that broke the rules may take to receive the reason, and to stop sending.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct TcpReceiver<S> {
    link: Arc<Link<S>>,
    settings: Settings,
    /// What has come and was not a whole frame yet.
    buffer: BytesMut,
    progress: Progress,
    heard: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    state: State,
}

/// What of the options concerns receiving.
struct Settings {
    limits: Limits,
    max_frame_bytes: usize,
    silence_timeout: Option<Duration>,
    stalled_frame_timeout: Duration,
}

enum State {
    Open,
    /// The peer has closed; what we had begun to write is on its way.
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

/// What ends the wait for a frame.
enum Step {
    Frame(Kind, Bytes),
    Bad(BadHead),
    End,
    Broken(io::Error),
    Silent,
    Stalled,
}

impl<S: Io> TcpReceiver<S> {
    pub(crate) fn new(link: Arc<Link<S>>, options: &TcpOptions) -> Self {
        let silence_timeout = (!options.keep_alive.is_zero()).then_some(options.silence_timeout);
        let settings = Settings {
            limits: options.limits,
            max_frame_bytes: options.max_frame_bytes,
            silence_timeout,
            stalled_frame_timeout: options.stalled_frame_timeout,
        };
        Self {
            link,
            settings,
            buffer: BytesMut::new(),
            progress: Progress::default(),
            heard: Instant::now(),
            timer: None,
            state: State::Open,
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            match self.take_frame() {
                Err(bad) => return Poll::Ready(Step::Bad(bad)),
                Ok(Some((kind, payload))) => return Poll::Ready(Step::Frame(kind, payload)),
                Ok(None) => {}
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Step::End),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Step::Broken(error)),
                Poll::Pending => return self.poll_timer(cx),
            }
        }
    }

    /// The next frame, if all of it is there.
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
            // An idle connection keeps no buffer.
            self.buffer = BytesMut::new();
        }
        self.progress.begun();
        Ok(Some((kind, payload)))
    }

    /// Reads more behind what waits; 0 at the end of the stream. The buffer grows with what has
    /// come, never with what was promised.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; READ_BYTES];
        let mut buf = ReadBuf::new(&mut bytes);
        match self.link.poll_read(cx, &mut buf) {
            Poll::Ready(result) => result?,
            Poll::Pending => {
                self.progress.waiting(!self.buffer.is_empty());
                return Poll::Pending;
            }
        }
        let count = buf.filled().len();
        self.buffer.extend_from_slice(buf.filled());
        self.progress.received(count);
        self.heard = Instant::now();
        Poll::Ready(Ok(count))
    }

    /// Whether the peer has been silent for too long, or does not finish what it has begun.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let silent = self.settings.silence_timeout.map(|limit| self.heard + limit);
        let stalled =
            self.progress.stalled_since().map(|since| since + self.settings.stalled_frame_timeout);
        loop {
            let Some(deadline) = silent.into_iter().chain(stalled).min() else {
                return Poll::Pending;
            };
            let timer =
                self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            // Not set back at every frame: an early end is looked at again below.
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

    /// What one step means: a frame, or (after a change of state) none yet.
    fn step(&mut self, step: Step) -> Result<Option<Incoming>, TransportError> {
        match step {
            Step::Frame(Kind::Alive, _) => {
                Ok(Some(Incoming { bytes: HEAD_BYTES, ..Incoming::default() }))
            }
            Step::Frame(Kind::Messages, payload) => Ok(Some(self.decode(&payload))),
            Step::Frame(Kind::Close, payload) => {
                let reason = frame::parse_close(&payload);
                tracing::debug!(?reason, "the peer closes");
                self.link.begin_close();
                self.link.take_over(None);
                self.state = State::Answering;
                Ok(None)
            }
            Step::Bad(BadHead::TooLarge) => Ok(Some(self.too_large())),
            Step::Bad(bad) => {
                self.link.counters().frames_malformed.increment();
                let text = bad.to_string();
                self.fail(TransportError::Protocol(text.clone()), CloseCode::ProtocolError, &text);
                Ok(None)
            }
            Step::End => self.ended(None),
            Step::Broken(error) => self.ended(Some(error)),
            Step::Silent => {
                self.link.counters().peers_lost.increment();
                let limit = self.settings.silence_timeout.unwrap_or_default();
                self.fail(
                    TransportError::Silent { limit },
                    CloseCode::GoingAway,
                    "no sign of life came in time",
                );
                Ok(None)
            }
            Step::Stalled => {
                self.link.counters().frames_too_slow.increment();
                let limit = self.settings.stalled_frame_timeout;
                let what = "receiving the rest of a frame";
                let error = TransportError::TimedOut { what, limit };
                let text = "the rest of a frame came too slowly";
                self.fail(error, CloseCode::PolicyViolation, text);
                Ok(None)
            }
        }
    }

    fn decode(&self, payload: &Bytes) -> Incoming {
        let bytes = HEAD_BYTES + payload.len();
        match decode_aside(bytes, || decode_frame(payload, &self.settings.limits)) {
            Ok(decoded) => {
                let rejected = decoded.rejected.into_iter().map(Rejection::from).collect();
                Incoming { messages: decoded.messages, rejected, bytes }
            }
            Err(error) => Incoming { messages: Vec::new(), rejected: vec![error.into()], bytes },
        }
    }

    fn too_large(&mut self) -> Incoming {
        self.link.counters().frames_too_large.increment();
        let max = self.settings.max_frame_bytes;
        let text = format!("a frame of more than {max} bytes");
        self.fail(TransportError::FrameTooLarge { max }, CloseCode::TooLarge, &text);
        Incoming { rejected: vec![Rejection::TooLarge { max }], ..Incoming::default() }
    }

    /// The stream has ended without a close frame.
    fn ended(&mut self, error: Option<io::Error>) -> Result<Option<Incoming>, TransportError> {
        self.state = State::Ended;
        self.link.take_over(None);
        if !self.buffer.is_empty() {
            self.link.counters().frames_cut_off.increment();
            self.buffer = BytesMut::new();
        }
        // After our own close the peer may end the stream as it likes.
        if self.link.close_deadline().is_some() {
            return Ok(None);
        }
        Err(error.map_or(TransportError::Disconnected, TransportError::from))
    }

    fn fail(&mut self, error: TransportError, code: CloseCode, text: &str) {
        self.link.take_over(Some(frame::close(&CloseReason::new(code, text))));
        self.buffer = BytesMut::new();
        self.state = State::Failing(LastWord {
            error,
            deadline: Instant::now() + LAST_WORD_TIMEOUT,
            flushed: false,
            linger: Linger::new(),
        });
    }
}

impl LastWord {
    fn poll<S: Io>(&mut self, link: &Link<S>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.flushed && link.poll_end(cx).is_ready() {
            self.flushed = true;
        }
        // Read also while the reason waits: a peer that only writes would never take it.
        let drained = self.linger.poll(cx, |cx, buf| link.poll_read(cx, buf));
        if self.flushed { drained } else { Poll::Pending }
    }
}

#[async_trait]
impl<S: Io> Receiver for TcpReceiver<S> {
    async fn receive(&mut self) -> Result<Option<Incoming>, TransportError> {
        loop {
            match &mut self.state {
                State::Ended => return Ok(None),
                State::Answering => {
                    tokio::select! {
                        biased;
                        () = poll_fn(|cx| self.link.poll_end(cx)) => {}
                        () = self.link.close_timed_out() => {}
                    }
                    self.state = State::Ended;
                }
                State::Failing(last) => {
                    let deadline = last.deadline;
                    let telling = poll_fn(|cx| last.poll(&self.link, cx));
                    // Without time left the peer does not learn the reason; the end is the same.
                    let _ = tokio::time::timeout_at(deadline, telling).await;
                    if let State::Failing(last) = std::mem::replace(&mut self.state, State::Ended) {
                        return Err(last.error);
                    }
                }
                State::Open => {
                    let link = Arc::clone(&self.link);
                    let step = tokio::select! {
                        biased;
                        step = poll_fn(|cx| self.poll_step(cx)) => step,
                        () = link.close_timed_out() => {
                            self.state = State::Ended;
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
    }
}
