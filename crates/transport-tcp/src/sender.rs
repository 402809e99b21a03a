//! The sender: batches, keepalives and the close.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use downbeat_protocol::Message;
use downbeat_protocol::binary::encode_message;
use downbeat_transport::net::Io;
use downbeat_transport::net::internal::{ClosingStream, close_within_timeout};
use downbeat_transport::{CloseReason, Sender, TransportError};

use crate::frame::{self, HEAD_BYTES, Kind};
use crate::shared_stream::SharedStream;

/// The size at which a batch ends. Larger batches would save almost nothing and use more memory. A
/// longer message is a frame of its own.
const MAX_BATCH_BYTES: usize = 64 << 10;

pub(crate) struct TcpSender<S> {
    stream: Arc<SharedStream<S>>,
    /// The interval at which the peer wants keepalives.
    keep_alive: Option<Duration>,
    close: Close,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Close {
    Open,
    Begun,
    Done,
}

impl<S: Io> TcpSender<S> {
    pub(crate) fn new(stream: Arc<SharedStream<S>>, keep_alive: Option<Duration>) -> Self {
        Self { stream, keep_alive, close: Close::Open }
    }

    /// Writes one frame.
    async fn put(&self, kind: Kind, payload: Vec<u8>) -> Result<usize, TransportError> {
        if self.stream.is_closed() {
            return Err(TransportError::Closed);
        }
        let head = frame::head(kind, payload.len());
        let bytes = HEAD_BYTES + payload.len();
        self.stream.put(Bytes::copy_from_slice(&head), payload.into());
        self.finish().await?;
        Ok(bytes)
    }

    /// Finishes writing the current frame.
    async fn finish(&self) -> Result<(), TransportError> {
        poll_fn(|cx| self.stream.poll_written(cx)).await
    }

    fn check_open(&self) -> Result<(), TransportError> {
        let open = self.close == Close::Open && !self.stream.is_closed();
        if open { Ok(()) } else { Err(TransportError::Closed) }
    }

    async fn send_close(&self, reason: &CloseReason) -> Result<(), TransportError> {
        self.stream.put_close(frame::close(reason));
        self.finish().await?;
        poll_fn(|cx| self.stream.poll_shutdown(cx)).await.map_err(TransportError::from)
    }
}

#[async_trait]
impl<S: Io> Sender for TcpSender<S> {
    async fn send(&mut self, messages: &[Message]) -> Result<usize, TransportError> {
        self.check_open()?;
        self.finish().await?;
        let mut bytes = 0;
        let mut payload = Vec::new();
        for message in messages {
            let before = payload.len();
            encode_message(message, &mut payload);
            if before > 0 && payload.len() > MAX_BATCH_BYTES {
                payload.truncate(before);
                bytes += self.put(Kind::Messages, std::mem::take(&mut payload)).await?;
                encode_message(message, &mut payload);
            }
            if payload.len() >= MAX_BATCH_BYTES {
                bytes += self.put(Kind::Messages, std::mem::take(&mut payload)).await?;
            }
        }
        if !payload.is_empty() {
            bytes += self.put(Kind::Messages, payload).await?;
        }
        Ok(bytes)
    }

    fn keep_alive_interval(&self) -> Option<Duration> {
        self.keep_alive
    }

    async fn keep_alive(&mut self) -> Result<(), TransportError> {
        self.check_open()?;
        if self.keep_alive.is_some() {
            self.finish().await?;
            self.put(Kind::KeepAlive, Vec::new()).await?;
        }
        Ok(())
    }

    async fn close(&mut self, reason: CloseReason) -> Result<(), TransportError> {
        if self.close == Close::Done {
            return Ok(());
        }
        self.close = Close::Begun;
        self.stream.close_timer().start();
        let sent = close_within_timeout(self.send_close(&reason)).await;
        self.close = Close::Done;
        match sent {
            // The peer was first, without a close of its own.
            Err(TransportError::Disconnected) => Ok(()),
            sent => sent,
        }
    }
}
