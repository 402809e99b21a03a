//! How a connection ends, on both transports.
//!
//! Either side may close; both then have [`CLOSE_TIMEOUT`] for the closing handshake. A peer that
//! breaks the rules gets a close frame with the reason, and [`LAST_WORD_TIMEOUT`] to read it.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::connection::Incoming;
use crate::error::TransportError;
use crate::net::socket::LingeringClose;

/// The time for the closing handshake.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for a peer that broke the rules to receive the reason and to stop sending.
pub const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(2);

/// Limits the time of the closing handshake, from the moment at which one side begins it.
#[derive(Debug, Default)]
pub struct CloseTimer {
    deadline: OnceLock<Instant>,
    /// Wakes the receiver when our side begins to close.
    started: Notify,
}

impl CloseTimer {
    /// Starts the timer, unless it runs already.
    pub fn start(&self) {
        self.deadline.get_or_init(|| Instant::now() + CLOSE_TIMEOUT);
        self.started.notify_one();
    }

    /// Whether one side has begun to close.
    pub fn has_started(&self) -> bool {
        self.deadline.get().is_some()
    }

    /// Waits until the time is over.
    pub async fn elapsed(&self) {
        loop {
            match self.deadline.get() {
                Some(deadline) => return tokio::time::sleep_until(*deadline).await,
                None => self.started.notified().await,
            }
        }
    }
}

/// The stream of a connection, as the receiver uses it to end the connection.
pub trait ClosingStream {
    /// Ready once everything has been written and the write side is shut down.
    fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Reads bytes that are discarded.
    fn poll_discard(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Called when [`poll_end`](Self::poll_end) has finished or is given up.
    fn ended(&self) {}

    /// The timer of the closing handshake.
    fn close_timer(&self) -> &CloseTimer;
}

/// The close after the peer broke the rules: writes the close frame and discards what the peer
/// still sends, because closing a socket with unread bytes would take the close frame back.
#[derive(Debug)]
pub struct FinalClose {
    error: TransportError,
    deadline: Instant,
    flushed: bool,
    linger: LingeringClose,
}

impl FinalClose {
    /// Ends with this error, after at most `timeout`.
    pub fn new(error: TransportError, timeout: Duration) -> Self {
        let deadline = Instant::now() + timeout;
        Self { error, deadline, flushed: false, linger: LingeringClose::default() }
    }

    fn poll(&mut self, stream: &impl ClosingStream, cx: &mut Context<'_>) -> Poll<()> {
        if !self.flushed && stream.poll_end(cx).is_ready() {
            self.flushed = true;
            stream.ended();
        }
        // Read while the close frame waits to be written: a peer that only writes would never take
        // it.
        let drained = self.linger.poll(cx, |cx, buf| stream.poll_discard(cx, buf));
        if self.flushed { drained } else { Poll::Pending }
    }
}

/// How far a receiver is.
#[derive(Debug)]
pub enum ReceiveState {
    /// Frames may come.
    Open,
    /// The peer has closed; our own close is being written.
    Answering,
    /// The peer broke the rules.
    Failing(FinalClose),
    /// Nothing more comes.
    Ended,
}

impl ReceiveState {
    /// Ends a connection that is not open any more, and returns what `receive` returns then. `None`
    /// while frames may come. The call may be dropped at any time.
    pub async fn finish(
        &mut self,
        stream: &impl ClosingStream,
    ) -> Option<Result<Option<Incoming>, TransportError>> {
        match self {
            Self::Open => return None,
            Self::Ended => {}
            Self::Answering => {
                tokio::select! {
                    biased;
                    () = poll_fn(|cx| stream.poll_end(cx)) => {}
                    () = stream.close_timer().elapsed() => {}
                }
                stream.ended();
                *self = Self::Ended;
            }
            Self::Failing(last) => {
                let deadline = last.deadline;
                // If the time runs out, the peer does not learn the reason; the end is the same.
                let _ =
                    tokio::time::timeout_at(deadline, poll_fn(|cx| last.poll(stream, cx))).await;
                stream.ended();
                if let Self::Failing(last) = std::mem::replace(self, Self::Ended) {
                    return Some(Err(last.error));
                }
            }
        }
        Some(Ok(None))
    }
}

/// Runs the sender's part of a close within [`CLOSE_TIMEOUT`]. If the peer was first, the close
/// succeeds.
pub async fn close_within_timeout(
    sending: impl Future<Output = Result<(), TransportError>>,
) -> Result<(), TransportError> {
    match tokio::time::timeout(CLOSE_TIMEOUT, sending).await {
        Ok(Err(TransportError::Closed)) => Ok(()),
        Ok(result) => result,
        Err(_) => {
            let what = "closing the connection to a peer that does not read";
            Err(TransportError::TimedOut { what, limit: CLOSE_TIMEOUT })
        }
    }
}
