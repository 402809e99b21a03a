//! Reading on for a moment before a socket is closed.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

/// What is read and thrown away at most: a few seconds of a fast sender, at next to no cost.
const MAX_LINGER_BYTES: usize = 16 << 20;
/// What is read at once.
const LINGER_BUFFER_BYTES: usize = 8 << 10;

/// Throws away what a peer still sends, until it stops or has sent too much.
///
/// A socket that is closed while bytes wait to be read is reset, and a reset makes the peer's system
/// forget what it had received but not read yet: our last word.
pub(crate) struct Linger {
    read: usize,
}

impl Linger {
    pub(crate) fn new() -> Self {
        Self { read: 0 }
    }

    /// Ready at the end of what the peer sends, at an error, or at the bound.
    pub(crate) fn poll(
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
