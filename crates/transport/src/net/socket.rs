//! Sockets: their settings, and how they end.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What is read and thrown away at most: a few seconds of a fast sender, at next to no cost.
const MAX_LINGER_BYTES: usize = 16 << 20;
/// How many times a system that is silent is asked, within the time after which it counts as gone.
const KEEPALIVE_PROBES: u32 = 3;
/// What is read at once.
const LINGER_BUFFER_BYTES: usize = 8 << 10;

/// What a connection is made of, with or without encryption.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// Frames leave at once, and a peer whose system answers no more is noticed about this time after
/// it has stopped, whether something is being sent to it (Linux; elsewhere the operating system
/// decides) or not.
pub fn configure(stream: &TcpStream, dead_peer_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    // Whole seconds are all that systems know.
    let interval = (dead_peer_timeout / KEEPALIVE_PROBES).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(interval).with_interval(interval);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(dead_peer_timeout))?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = dead_peer_timeout;
    Ok(())
}

/// Throws away what a peer still sends, until it stops or has sent too much.
///
/// A socket that is closed while bytes wait to be read is reset, and a reset makes the peer's system
/// forget what it had received but not read yet: our last word.
#[derive(Debug, Default)]
pub struct Linger {
    read: usize,
}

impl Linger {
    /// Nothing has been thrown away yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ready at the end of what the peer sends, at an error, or at the bound.
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
