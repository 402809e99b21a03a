//! TCP socket options, and the lingering close.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The most bytes to discard: a few seconds of a fast sender, at almost no cost.
const MAX_LINGER_BYTES: usize = 16 << 20;
/// Keepalive probes within the time after which a silent system counts as gone.
const KEEPALIVE_PROBES: u32 = 3;
/// The bytes of one read.
const LINGER_BUFFER_BYTES: usize = 8 << 10;

/// A byte stream that can carry a connection: a TCP or Unix socket, a TLS or QUIC stream, a pipe.
///
/// Every type that fits implements this trait.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// Switches off Nagle's algorithm, and detects a peer whose system has stopped to answer about
/// `dead_peer_timeout` later. While bytes wait for acknowledgement this works on Linux only;
/// elsewhere the operating system decides.
pub(super) fn configure(stream: &TcpStream, dead_peer_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    // Systems accept whole seconds only.
    let interval = (dead_peer_timeout / KEEPALIVE_PROBES).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(interval).with_interval(interval);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(dead_peer_timeout))?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = dead_peer_timeout;
    Ok(())
}

/// Discards bytes from the peer until it stops, or has sent too much.
///
/// Closing a socket with unread bytes resets the connection. A reset makes the peer's system drop
/// the bytes that the peer has not read yet, and with them our close frame.
#[derive(Debug, Default)]
pub struct LingeringClose {
    read: usize,
}

impl LingeringClose {
    /// Ready at the end of the stream, at an error, or at the bound.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(&mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<()> {
        let mut buffer = [0; LINGER_BUFFER_BYTES];
        while self.read < MAX_LINGER_BYTES {
            let mut buf = ReadBuf::new(&mut buffer);
            match ready!(read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => self.read += buf.filled().len(),
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_idle_connection_is_probed_by_the_system() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        configure(&stream, Duration::from_secs(30)).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(10));
        configure(&stream, Duration::from_millis(500)).unwrap();
        assert!(socket.keepalive().unwrap());
    }
}
