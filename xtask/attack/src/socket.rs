//! An attacker's WebSocket: it sends any bytes, whole or in parts, and reads as it likes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, watch};

/// The time limit of a handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);

/// The pause between two reads in [`Reading::Slowly`].
const SLOW_READ_INTERVAL: Duration = Duration::from_millis(100);

/// The bytes of one read in [`Reading::Slowly`].
const SLOW_READ_BYTES: usize = 512;

/// The receive buffer of connections that do not read everything.
const SMALL_BUFFER: u32 = 4096;

/// The first byte of a whole text frame.
pub(crate) const TEXT: u8 = 0x81;
/// The first byte of a ping.
pub(crate) const PING: u8 = 0x89;
/// The first byte of a text frame that claims to be compressed.
pub(crate) const COMPRESSED: u8 = 0xC1;

/// How a connection reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Everything at once.
    All,
    /// A few KiB in a second.
    Slowly,
    /// Nothing.
    Nothing,
}

/// What all connections of an attack have done.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicU64,
    pub(crate) closed_by_server: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

/// A connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Socket(Arc<Inner>);

struct Inner {
    /// `None` after [`Socket::close`].
    writing: Mutex<Option<OwnedWriteHalf>>,
    reading: tokio::task::JoinHandle<()>,
    counters: Arc<Counters>,
    is_closed: Arc<AtomicBool>,
    over: watch::Receiver<bool>,
}

/// The attack's time is over, or the server has closed the connection.
#[derive(Debug, thiserror::Error)]
#[error("the attack is over")]
pub(crate) struct Over;

impl Socket {
    /// Connects from one of the loopback addresses.
    pub(crate) async fn connect(
        server: SocketAddr,
        from: Ipv4Addr,
        path: &str,
        reading: Reading,
        counters: &Arc<Counters>,
        over: &watch::Receiver<bool>,
    ) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if reading != Reading::All {
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
        }
        socket.bind(SocketAddr::from((from, 0)))?;
        let handshake = async {
            let mut stream = socket.connect(server).await?;
            stream.set_nodelay(true)?;
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate\r\n\
                 Sec-WebSocket-Version: 13\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            ensure!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
            Ok(stream)
        };
        let stream = tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await;
        let (read, write) = stream.context("the handshake takes too long")??.into_split();
        counters.connections.fetch_add(1, Ordering::Relaxed);
        let is_closed = Arc::<AtomicBool>::default();
        let reading =
            tokio::spawn(read_all(read, reading, Arc::clone(counters), Arc::clone(&is_closed)));
        Ok(Self(Arc::new(Inner {
            writing: Mutex::new(Some(write)),
            reading,
            counters: Arc::clone(counters),
            is_closed,
            over: over.clone(),
        })))
    }

    /// Sends bytes that need not be whole frames.
    pub(crate) async fn send_raw(&self, bytes: &[u8]) -> Result<(), Over> {
        let mut over = self.0.over.clone();
        let mut writing = self.0.writing.lock().await;
        let stream = writing.as_mut().ok_or(Over)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = tokio::select! {
                biased;
                _ = over.wait_for(|over| *over) => return Err(Over),
                written = stream.write(rest) => written.map_err(|_| Over)?,
            };
            self.0.counters.sent.fetch_add(written as u64, Ordering::Relaxed);
            rest = &rest[written..];
        }
        Ok(())
    }

    /// Sends one text frame.
    pub(crate) async fn send(&self, text: &str) -> Result<(), Over> {
        self.send_raw(&frame_head(TEXT, text.len())).await?;
        self.send_raw(text.as_bytes()).await?;
        self.0.counters.messages.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Sends many frames at once.
    pub(crate) async fn send_frames(&self, frames: &Frames) -> Result<(), Over> {
        self.send_raw(&frames.bytes).await?;
        self.0.counters.messages.fetch_add(frames.count, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the connection without a goodbye.
    pub(crate) async fn close(&self) {
        self.0.reading.abort();
        drop(self.0.writing.lock().await.take());
    }

    /// Whether the server has closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Relaxed)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Frames that are sent at once.
#[derive(Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    count: u64,
}

impl Frames {
    /// One text frame.
    pub(crate) fn one(text: &str) -> Self {
        [text].into_iter().collect()
    }

    /// Text frames, so many at once.
    pub(crate) fn bursts(texts: &[String], at_once: usize) -> Vec<Self> {
        texts.chunks(at_once).map(|texts| texts.iter().collect()).collect()
    }

    pub(crate) fn push(&mut self, text: &str) {
        self.push_kind(TEXT, text.as_bytes());
    }

    /// A frame with another first byte.
    pub(crate) fn push_kind(&mut self, first: u8, payload: &[u8]) {
        self.bytes.extend_from_slice(&frame_head(first, payload.len()));
        self.bytes.extend_from_slice(payload);
        self.count += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl<T: AsRef<str>> FromIterator<T> for Frames {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let mut frames = Self::default();
        for text in texts {
            frames.push(text.as_ref());
        }
        frames
    }
}

/// The head of a masked frame (RFC 6455, 5.2). The mask is zero, so the payload is sent as it is.
pub(crate) fn frame_head(first: u8, len: usize) -> Vec<u8> {
    const MASKED: u8 = 0x80;
    const LENGTH_OF_2_BYTES: u8 = 0x7E;
    const LENGTH_OF_8_BYTES: u8 = 0x7F;
    let mut head = vec![first];
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..126), _) => head.push(MASKED | len),
        (_, Ok(len)) => {
            head.push(MASKED | LENGTH_OF_2_BYTES);
            head.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            head.push(MASKED | LENGTH_OF_8_BYTES);
            head.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    head.extend_from_slice(&[0; 4]);
    head
}

async fn read_all(
    mut stream: OwnedReadHalf,
    reading: Reading,
    counters: Arc<Counters>,
    is_closed: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; if reading == Reading::All { 1 << 16 } else { SLOW_READ_BYTES }];
    match reading {
        // The open half keeps the connection.
        Reading::Nothing => std::future::pending::<()>().await,
        Reading::All | Reading::Slowly => {
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                counters.received.fetch_add(count as u64, Ordering::Relaxed);
                if reading == Reading::Slowly {
                    tokio::time::sleep(SLOW_READ_INTERVAL).await;
                }
            }
        }
    }
    is_closed.store(true, Ordering::Relaxed);
    counters.closed_by_server.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_frame_has_three_forms() {
        assert_eq!(frame_head(TEXT, 125), [0x81, 0xFD, 0, 0, 0, 0]);
        assert_eq!(frame_head(TEXT, 126), [0x81, 0xFE, 0, 126, 0, 0, 0, 0]);
        let head = frame_head(PING, 1 << 16);
        assert_eq!(head, [0x89, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
}
