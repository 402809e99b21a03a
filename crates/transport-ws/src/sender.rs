//! The sender: batches, fragments, pings and the close.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use downbeat_protocol::json::{encode_message, encode_ping};
use downbeat_protocol::{Message, Ping};
use downbeat_transport::net::Io;
use downbeat_transport::net::internal::{ClosingStream, close_within_timeout};
use downbeat_transport::{CloseReason, Sender, TransportError};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message as WsMessage};

use crate::options::FRAGMENT_BYTES;
use crate::socket::{Socket, transport_error};

/// The size at which a batch ends, as in the reference (which counts UTF-16 units; only text beyond
/// ASCII makes a difference). A longer message is a frame of its own.
const MAX_BATCH_BYTES: usize = 25_000;
/// The longest text of a WebSocket close frame (RFC 6455, 5.5).
const MAX_CLOSE_TEXT_BYTES: usize = 123;

pub(crate) struct WsSender<S> {
    socket: Arc<Socket<S>>,
    /// Batches from the start; otherwise only once the peer has sent a batch.
    batches: bool,
    ping: Option<PingSettings>,
    /// The rest of a frame that a dropped call has begun.
    unfinished: Option<Unfinished>,
    close: Close,
}

/// A server's keepalives.
pub(crate) struct PingSettings {
    pub(crate) interval: Duration,
    pub(crate) name: String,
}

struct Unfinished {
    rest: Bytes,
    begun: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Close {
    Open,
    /// The close frame is in the write buffer, or on its way there.
    Begun {
        buffered: bool,
    },
    Done,
}

impl<S: Io> WsSender<S> {
    pub(crate) fn new(socket: Arc<Socket<S>>, batches: bool, ping: Option<PingSettings>) -> Self {
        Self { socket, batches, ping, unfinished: None, close: Close::Open }
    }

    /// Writes one text frame into the write buffer.
    async fn put(&mut self, text: Vec<u8>) -> Result<(), WsError> {
        self.unfinished = Some(Unfinished { rest: text.into(), begun: false });
        self.finish().await
    }

    /// Writes the rest of the current frame into the write buffer, fragment by fragment.
    async fn finish(&mut self) -> Result<(), WsError> {
        while let Some(Unfinished { rest, begun }) = &mut self.unfinished {
            poll_fn(|cx| self.socket.poll_ready(cx)).await?;
            let fragment = rest.slice(..rest.len().min(FRAGMENT_BYTES));
            let length = fragment.len();
            let last = length == rest.len();
            let kind = if *begun { Data::Continue } else { Data::Text };
            let frame = Frame::message(fragment, OpCode::Data(kind), last);
            match self.socket.write(WsMessage::Frame(frame)) {
                Ok(()) if last => self.unfinished = None,
                Ok(()) => {
                    *begun = true;
                    *rest = rest.slice(length..);
                }
                // Answers to the peer's pings fill the buffer.
                Err(WsError::WriteBufferFull(_)) => {
                    poll_fn(|cx| self.socket.poll_flush(cx)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn flush(&self) -> Result<(), WsError> {
        poll_fn(|cx| self.socket.poll_flush(cx)).await
    }

    fn check_open(&self) -> Result<(), TransportError> {
        if self.close == Close::Open { Ok(()) } else { Err(TransportError::Closed) }
    }

    async fn send_batched(&mut self, messages: &[Message]) -> Result<usize, WsError> {
        self.finish().await?;
        let batches = self.batches || self.socket.peer_batches();
        let mut bytes = 0;
        let mut text = Vec::new();
        for message in messages {
            let before = text.len();
            if before > 0 {
                text.push(b'\n');
            }
            encode_message(message, &mut text);
            if before > 0 && text.len() > MAX_BATCH_BYTES {
                let next = text.split_off(before + 1);
                text.truncate(before);
                bytes += text.len();
                self.put(std::mem::replace(&mut text, next)).await?;
            }
            if !batches || text.len() >= MAX_BATCH_BYTES {
                bytes += text.len();
                self.put(std::mem::take(&mut text)).await?;
            }
        }
        if !text.is_empty() {
            bytes += text.len();
            self.put(text).await?;
        }
        self.flush().await?;
        Ok(bytes)
    }

    async fn send_close(&mut self, reason: &CloseReason) -> Result<(), WsError> {
        if self.close == (Close::Begun { buffered: false }) {
            self.finish().await?;
            let frame = close_frame(CloseCode::from(reason.code.number()), &reason.text);
            self.socket.write(WsMessage::Close(Some(frame)))?;
            self.close = Close::Begun { buffered: true };
        }
        self.flush().await
    }
}

#[async_trait]
impl<S: Io> Sender for WsSender<S> {
    async fn send(&mut self, messages: &[Message]) -> Result<usize, TransportError> {
        self.check_open()?;
        self.send_batched(messages).await.map_err(transport_error)
    }

    fn keep_alive_interval(&self) -> Option<Duration> {
        self.ping.as_ref().map(|ping| ping.interval)
    }

    async fn keep_alive(&mut self) -> Result<(), TransportError> {
        self.check_open()?;
        let Some(ping) = &self.ping else { return Ok(()) };
        let mut text = Vec::new();
        encode_ping(&Ping { time: unix_millis(), dc: ping.name.clone() }, &mut text);
        let sending = async {
            self.finish().await?;
            self.put(text).await?;
            self.flush().await
        };
        sending.await.map_err(transport_error)
    }

    async fn close(&mut self, reason: CloseReason) -> Result<(), TransportError> {
        match self.close {
            Close::Open => self.close = Close::Begun { buffered: false },
            Close::Begun { .. } => {}
            Close::Done => return Ok(()),
        }
        self.socket.close_timer().start();
        let sent =
            close_within_timeout(async { self.send_close(&reason).await.map_err(transport_error) });
        let sent = sent.await;
        self.close = Close::Done;
        sent
    }
}

/// A close frame whose text fits.
pub(crate) fn close_frame(code: CloseCode, text: &str) -> CloseFrame {
    let text = text.get(..text.floor_char_boundary(MAX_CLOSE_TEXT_BYTES)).unwrap_or_default();
    CloseFrame { code, reason: Utf8Bytes::from(text) }
}

/// 0 for a clock before 1970.
fn unix_millis() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_text_is_truncated_between_characters() {
        let frame = close_frame(CloseCode::Normal, &"ä".repeat(100));
        assert_eq!(frame.reason.as_str(), "ä".repeat(61));
        assert_eq!(close_frame(CloseCode::Normal, "done").reason.as_str(), "done");
    }
}
